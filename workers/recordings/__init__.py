"""From an event to an archived recording and its transcriptions."""
