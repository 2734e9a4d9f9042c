"""``bench gpu`` and ``bench cpu``: what the work costs, against the limit of the machine. One file a bench."""
