"""The certificate of destruction on paper: a PDF of the same facts as its JSON, which holds every name in full."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from archive import kinds
from text.counts import many
from text.errors import UserError
from text.sizes import format_size
from text.times import format_moment
from workers.disposal.certificate import Certificate, Destroyed

if TYPE_CHECKING:
    from fpdf import FPDF

_MOST_NAMED = 20_000  # objects; the JSON has all of them
_GREY = (110, 110, 110)


def draw(certificate: Certificate, json_name: str, json_sha256: str, signer: str | None) -> bytes:
    """The bytes of the PDF.

    Args:
        certificate: the certificate.
        json_name: the name of its JSON file, and `json_sha256` of its bytes.
        signer: the fingerprint of the key that signs both; None: nothing signs them.

    Raises:
        UserError: the package that draws PDFs is not installed.
    """
    try:
        from fpdf import FPDF
    except ImportError:
        raise UserError("fpdf2 is missing, so there is no PDF; pip install 'callvault[certificate]'") from None

    class Paper(FPDF):
        def footer(self) -> None:
            self.set_y(-12)
            self.set_font("Helvetica", size=8)
            self.set_text_color(*_GREY)
            self.cell(0, 5, _latin(f"Archive {certificate.archive_id} - page {self.page_no()}/{{nb}}"), align="C")

    paper = Paper(format="A4")
    paper.set_title("Certificate of destruction")
    paper.set_creator("Callvault")
    paper.set_auto_page_break(auto=True, margin=16)
    paper.add_page()
    _line(paper, "Certificate of destruction", size=20, bold=True, gap=2)
    _line(paper, f"{certificate.since} to {certificate.until}, both days included (UTC)", size=12, gap=4)
    _pairs(paper, _facts(certificate, json_name, json_sha256, signer))
    _heading(paper, "What was destroyed, by rule")
    _sums(paper, certificate)
    _heading(paper, "What this certificate says")
    _paragraphs(paper, certificate.covers)
    _heading(paper, "What it cannot prove")
    _paragraphs(paper, certificate.cannot_prove)
    if certificate.problems:
        _heading(paper, "Records that are not counted, because something is wrong with them")
        _paragraphs(paper, certificate.problems)
    if certificate.destroyed:
        _heading(paper, "Every record")
        _records(paper, certificate.destroyed)
    return bytes(paper.output())


def _facts(certificate: Certificate, json_name: str, json_sha256: str, signer: str | None) -> Iterable[tuple[str, str]]:
    size = format_size(certificate.bytes)
    counts = f"{many(certificate.recordings, 'recording')}, {many(certificate.objects, 'object')}"
    yield "Destroyed", f"{counts}, {many(certificate.bytes, 'byte')} ({size})"
    yield "Archive", certificate.archive_id
    yield "Made", f"{format_moment(certificate.made_at)} by {certificate.by}"
    head = "none" if certificate.head_sha256 is None else f"seal {certificate.head_sequence}, {certificate.head_sha256}"
    yield "Head of the seals", head
    yield "The same as JSON", f"{json_name}, SHA-256 {json_sha256}"
    yield "Signed by", signer or "nobody: CALLVAULT_SEAL_KEY was not set"


def _sums(paper: FPDF, certificate: Certificate) -> None:
    if not certificate.sums:
        _line(paper, "Nothing was disposed of under a retention rule in this period.")
        return
    paper.set_font("Helvetica", size=9)
    with paper.table(col_widths=(40, 20, 20, 20, 30), text_align=("LEFT", "RIGHT", "RIGHT", "RIGHT", "RIGHT")) as table:
        rows = [("Rule", "Applied rules", "Recordings", "Objects", "Bytes")]
        rows += [
            (one.rule, str(one.rules_number), str(one.recordings), str(one.objects), str(one.bytes))
            for one in certificate.sums
        ]
        for row in rows:
            table.row([_latin(text) for text in row])


def _records(paper: FPDF, destroyed: Sequence[Destroyed]) -> None:
    named = 0
    for one in destroyed:
        if named >= _MOST_NAMED:
            _line(paper, "The JSON file has the rest.")
            return
        seal = "no seal yet" if one.seal is None else f"seal {one.seal}"
        signed = "signed" if one.is_signed else "not signed"
        _line(paper, one.recording_id, bold=True)
        stays = "the commit record stays" if one.stays == "metadata" else "only hashes stay"
        _line(
            paper,
            f"{format_moment(one.at)}: rule {one.rule} of applied rules {one.rules_number}, "
            f"ended {format_moment(one.ended_at)}; {stays}",
            size=8,
        )
        _line(paper, f"record {one.record} ({signed}, {seal}), SHA-256 {one.record_sha256}", size=8, grey=True)
        folder = kinds.place_of(one.record).folder
        _line(paper, f"original gone at Telnyx before: {one.original.removeprefix(folder)}", size=8, grey=True)
        for row in one.objects:
            named += 1
            name = row.key.removeprefix(folder)
            _line(paper, f"{name}, {many(row.size, 'byte')}, SHA-256 {row.sha256}", size=7, grey=True)
        paper.ln(1.5)


def _heading(paper: FPDF, text: str) -> None:
    paper.ln(4)
    _line(paper, text, size=12, bold=True, gap=1)


def _paragraphs(paper: FPDF, texts: Iterable[str]) -> None:
    for text in texts:
        _line(paper, text, size=9, gap=1.5)


def _pairs(paper: FPDF, pairs: Iterable[tuple[str, str]]) -> None:
    for name, text in pairs:
        paper.set_font("Helvetica", "B", 9)
        paper.cell(34, 5, _latin(name))
        paper.set_font("Helvetica", size=9)
        paper.multi_cell(0, 5, _latin(text), align="L", new_x="LMARGIN", new_y="NEXT")


def _line(paper: FPDF, text: str, *, size: float = 9, bold: bool = False, grey: bool = False, gap: float = 0) -> None:
    paper.set_font("Helvetica", "B" if bold else "", size)
    paper.set_text_color(*(_GREY if grey else (0, 0, 0)))
    paper.multi_cell(0, size * 0.5, _latin(text), align="L", new_x="LMARGIN", new_y="NEXT")
    paper.set_text_color(0, 0, 0)
    paper.ln(gap)


def _latin(text: str) -> str:
    """A text in the characters that every PDF reader has; others are escaped, and the JSON has them."""
    return text.encode("latin-1", "backslashreplace").decode("latin-1")
