"""The order of a whole run.

The longest tests begin first, so that none of them is left when the others have ended. Tests that share a server of their
module stay in one process, so that no other starts the same server again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import pytest

# Seconds that the longest case of a test takes in a whole run: most of them wait. Those of ten seconds and more,
# except where they share a fixture of their module: another process would have to make it again.
LONG = {
    "test_under_faults_nothing_is_lost_and_nothing_deleted_too_early": 110,
    "test_a_release_is_built_checked_and_can_be_checked_again": 100,
    "test_a_mirror_in_another_kind_of_store_is_verified_and_taken_up": 30,
    "test_a_full_disk_under_redis_loses_no_accepted_event": 40,
    "test_a_worker_that_stops_itself_reports_what_failed_why_and_what_to_do": 40,
    "test_a_call_is_archived_deleted_at_telnyx_and_disposed_of_at_the_end_of_its_rule": 15,
    "test_a_run_that_is_killed_at_any_request_is_finished_by_the_next": 10,
    "test_the_clock_waits_for_no_slot_and_behind_no_job": 30,
    "test_a_failover_by_sentinel_under_load_loses_no_event": 30,
    "test_every_play_that_was_answered_is_in_the_log_once_after_kill_9": 20,
    "test_media_that_telnyx_never_serves_becomes_a_dead_letter": 30,
    "test_a_redis_restored_from_an_old_copy_deletes_nothing_early_and_does_no_harm": 30,
    "test_a_first_start_with_many_messages_archives_all_with_few_alerts": 30,
    "test_receipts_and_decisions_are_sealed_too": 15,
    "test_an_incomplete_day_waits_and_blocks_no_other": 25,
    "test_an_erased_recording_is_gone_and_on_record": 10,
    "test_pages_that_shift_while_they_are_read_lose_no_message": 25,
    "test_every_process_of_a_receiver_gives_the_sum_of_all_and_it_never_falls": 20,
    "test_nothing_outlives_a_killed_supervisor": 20,
    "test_a_long_list_of_deletions_keeps_no_webhook_waiting": 15,
    "test_a_worker_killed_while_it_seals_leaves_one_whole_chain": 20,
    "test_reconcile_fetches_what_a_broken_download_host_left": 20,
    "test_any_answer_of_the_api_is_a_model_or_an_error_of_the_table": 20,
    "test_sealed_days_are_counted_and_not_reconciled": 10,
    "test_a_redis_that_dies_at_a_command_is_retried_by_one_layer_only": 20,
    "test_a_recording_that_cannot_be_checked_blocks_no_other_deletion": 10,
    "test_a_frozen_primary_that_returns_next_to_its_successor_loses_no_event": 20,
    "test_a_seal_that_a_dead_worker_left_half_is_finished": 10,
    "test_any_answer_to_a_download_is_bytes_or_a_failed_download": 20,
    "test_entries_trimmed_from_the_change_feed_are_read_from_the_archive": 20,
    "test_new_credentials_of_the_store_go_on_where_the_revoked_ones_failed": 20,
    "test_an_outage_during_the_checksum_probe_settles_nothing": 15,
    "test_without_a_worker_every_surface_and_an_alert_show_it_within_half_a_minute": 15,
    "test_a_killed_workers_recording_is_finished_by_another": 15,
    "test_a_lost_redis_loses_no_seal_and_makes_none_twice": 15,
    "test_any_address_is_fetched_or_refused": 15,
    "test_up_runs_everything_mends_what_dies_and_ends_with_0": 15,
    "test_a_new_api_key_goes_on_where_the_revoked_one_failed": 15,
    "test_every_order_of_events_retries_and_crashes_leads_to_an_end_state": 15,
    "test_two_copies_that_both_go_on_are_found_by_the_head_of_the_other": 15,
    "test_an_unreachable_store_causes_an_alert_although_no_job_is_given_up": 15,
    "test_an_original_that_telnyx_never_deletes_backs_off_and_becomes_a_dead_letter": 10,
    "test_a_dead_workers_turn_soon_goes_to_another": 10,
    "test_a_held_original_is_never_deleted_until_it_is_released": 10,
    "test_an_error_page_is_never_archived_as_audio_and_becomes_a_dead_letter": 10,
    "test_a_worker_with_a_wrong_clock_blocks_no_other_from_deleting": 10,
    "test_a_rotation_of_the_key_as_the_runbook_has_it_loses_no_event": 10,
    "test_a_late_recording_gets_its_own_seal": 10,
    "test_an_authority_that_is_down_delays_the_stamp_and_never_the_seal": 10,
    "test_a_seal_that_cannot_be_read_keeps_no_recording_from_being_archived": 10,
    "test_a_store_that_is_away_is_an_outage_whose_error_shows_no_address_of_an_upload": 10,
    "test_audio_that_is_available_or_fails_differently_is_not_accepted_as_lost": 10,
    "test_a_store_that_is_away_postpones_deletions_in_few_lines": 10,
    "test_many_damaged_at_once_stop_deletion_and_alert": 10,
    "test_a_connection_that_trickles_or_stays_silent_is_closed": 10,
    "test_an_unwanted_body_blocks_no_connection": 10,
    "test_a_body_that_trickles_is_ended": 10,
    "test_with_an_unreadable_seal_or_manifest_a_lost_redis_still_finds_the_days": 10,
    "test_after_redis_is_lost_held_originals_stay_and_the_others_go": 10,
    "test_one_scrape_shows_the_work_of_workers_on_another_machine": 10,
    "test_a_real_prometheus_reports_real_faults": 10,
}

# Fixtures that start something for all tests of a module, or of a folder, or that import what no other test needs.
SERVERS = {
    "azure", "browser", "bundle", "cloud", "cluster", "deployment", "full_house", "many", "provider", "redis_servers", "running",
    "official_sdk", "s3", "up",
}  # fmt: skip
# Seconds of all tests that share such servers, or that of a store; `SHARED_SECONDS` where nothing is said.
TOGETHER = {
    "tests/contract/test_thin_lines.py": 90,
    "tests/browser/test_recordings.py": 100,
    "tests/browser/test_pages.py": 90,
    "tests/browser/test_bulk.py": 50,
    "tests/browser/test_api.py": 50,
    "tests/browser/test_states.py": 60,
    "tests/test_commands_of_documents.py": 50,
    "tests/test_proxies.py": 45,
    "tests/conformance/test_sdk.py": 15,
    "s3-strict-tls": 40,
    "s3-strict-by-boto3": 15,
}
SHARED_SECONDS = 25.0

T = TypeVar("T")


def seconds_of(item: pytest.Item) -> float:
    """The seconds of a long test; 0 for each other."""
    return LONG.get(item.name.partition("[")[0], 0)


def shared_by(item: pytest.Item) -> str:
    """What a test shares with others: the file whose server it uses, or the store; empty if nothing."""
    used = getattr(item, "fixturenames", ())
    if "emulator" in used and isinstance(item, pytest.Function):
        return str(item.callspec.params["emulator"])
    return item.nodeid.partition("::")[0] if SERVERS & {*used} else ""


def dealt(tests: Sequence[T], seconds: Sequence[float], shared: Sequence[str], processes: int) -> list[T]:
    """Sort tests so that half of the processes begin with the long ones, and half with those that share a server.

    The long ones wait more than they work, and the rest keeps the cores busy. `--dist worksteal` gives each process an equal
    run of the tests in their order; later an idle one takes the second half of what another still has, so never what that
    begins with (xdist, `scheduler/worksteal.py`).

    Args:
        tests: all of them.
        seconds: what each long one takes; 0: not long.
        shared: what each other one shares; empty: nothing.
        processes: how many run them.
    """
    together: dict[str, list[T]] = {}
    for test, its, name in zip(tests, seconds, shared, strict=True):
        if name and not its:
            together.setdefault(name, []).append(test)
    long = [(its, "", [test]) for test, its in zip(tests, seconds, strict=True) if its]
    groups = [(TOGETHER.get(name, SHARED_SECONDS), name, its) for name, its in together.items()]
    half = processes // 2
    first = [*_dealt(long, half), *_dealt(groups, processes - half)] if half else _dealt([*long, *groups], 1)
    rest = iter([test for test, its, name in zip(tests, seconds, shared, strict=True) if not its and not name])
    order: list[T] = []
    for number, begun in enumerate(first):
        share = (len(tests) - len(order)) // (processes - number)
        order += begun
        order += [test for _, test in zip(range(share - len(begun)), rest, strict=False)]
    return order + list(rest)


def _dealt(units: Sequence[tuple[float, str, list[T]]], hands: int) -> list[list[T]]:
    """Give each unit, the longest first, to the hand with the fewest seconds; in a hand, sort units by name.

    So the files of a folder follow each other, and what its tests share, such as the browser, starts once.
    """
    held: list[list[tuple[float, str, list[T]]]] = [[] for _ in range(hands)]
    for unit in sorted(units, key=lambda unit: -unit[0]):
        min(held, key=lambda its: sum(one[0] for one in its)).append(unit)
    return [[test for one in sorted(its, key=lambda one: one[1]) for test in one[2]] for its in held]
