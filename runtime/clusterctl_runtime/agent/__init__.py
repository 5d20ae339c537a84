"""The daemon on every node: joins the head, runs tasks, streams their logs, supervises the engine.

It travels as one file (`bundle.build_bundle`) and runs on a stock Python >= 3.10 without pip: standard library only.
"""
