"""The two errors a user meets. Each message is a sentence: what must hold, what was given, what to change."""


class UserError(ValueError):
    """Something the user can mend: a setting, a path, a file. Shown without a traceback by the command line."""


class SampleError(ValueError):
    """One sample cannot be used. It is counted, named and quarantined; past the stated share the run stops."""
