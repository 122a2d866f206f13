"""Deleting originals at Telnyx: the schedule, the rule, the decisions of people, the receipts."""
