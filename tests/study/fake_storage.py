"""Stands in for Optuna in tests of tune.py: planted values in a JSON file; `python3 fake_storage.py PLANTED ARGUMENTS`
is tune.py with it."""
import json
import os
import pathlib
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent.parent / "tools")]

import tune  # noqa: E402
from study_tools import run_tool  # noqa: E402


class FakeStorage:
    """Trial n draws train.lr = planted[n]; a report above `prune_above` ends the trial."""

    def __init__(self, file, space, seed):
        del seed
        self.file, self.names = pathlib.Path(f"{file}.json"), [p.name for p in space.params]
        self.state = json.loads(self.file.read_text()) if self.file.exists() else {"trials": [], "attributes": {}}
        self.planted = json.loads(os.environ["FAKE_PLANTED"])
        self.prune_above = float(os.environ.get("FAKE_PRUNE", "inf"))

    def _save(self):
        temporary = self.file.with_suffix(".new")
        temporary.write_text(json.dumps(self.state))
        temporary.replace(self.file)

    def attributes(self):
        return self.state["attributes"]

    def set_attribute(self, key, value):
        self.state["attributes"][key] = value
        self._save()

    def ask(self):
        number = len(self.state["trials"])
        self.state["trials"].append({"number": number, "state": "running", "value": None, "reports": [],
                                     "drawn": {name: self.planted[number] for name in self.names}})
        self._save()
        return number, self.state["trials"][number]["drawn"]

    def interrupted(self):
        return [(t["number"], t["drawn"]) for t in self.state["trials"] if t["state"] == "running"]

    def report(self, number, epoch, value):
        self.state["trials"][number]["reports"].append([epoch, value])
        self._save()
        return value > self.prune_above

    def tell(self, number, state, value, info):
        trial = self.state["trials"][number]
        assert trial["state"] == "running", "told twice"
        trial.update(state=state, value=value, info=info)
        self._save()

    def trials(self):
        return [t for t in self.state["trials"] if t["state"] != "running"]


if __name__ == "__main__":
    tune.POLL_SECONDS = 0.01
    run_tool("tune", lambda: tune.main(make_storage=FakeStorage))
