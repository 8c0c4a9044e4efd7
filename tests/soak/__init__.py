"""An hour at 200 operations a second, with faults, scrapes and API calls, and what is flat all the same."""
