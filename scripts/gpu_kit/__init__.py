"""The command `run` of a kit of scripts/gpu-kit: GPU tests and benches of w4ax, by their worth, within a deadline.

It needs Python 3.8 or newer without packages. `parts` lists what can run, `durations` how long it is expected to take,
`process` runs one program within a limit, `machine` describes the device, `report` writes the results, and `session`
joins them.
"""
