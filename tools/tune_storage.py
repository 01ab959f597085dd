"""Where a search keeps its trials: Optuna, asked and told. Tests put another one in its place."""
import pathlib
import sys

from study_tools import EXIT_BAD_DATA, EXIT_IO, ToolError
from tune_space import Param, Space

STUDY = "onpa"


class OptunaStorage:
    """Trials in a file of SQLite, values from TPE, stops by the median rule."""

    def __init__(self, file: pathlib.Path, space: Space, seed: int, startup_trials: int = 8):
        import optuna
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna = optuna
        self._names = [p.name for p in space.params]
        self._distributions = {p.name: self._distribution(p) for p in space.params}
        self._trials: dict = {}
        url = f"sqlite:///{file}"
        try:
            storage = optuna.storages.RDBStorage(url)
            study = optuna.create_study(study_name=STUDY, storage=storage, load_if_exists=True)
            # A search that goes on must not draw again what it has drawn.
            sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), n_startup_trials=startup_trials)
            pruner = optuna.pruners.MedianPruner(n_startup_trials=min(5, startup_trials), n_warmup_steps=1)
            self._study = optuna.load_study(study_name=STUDY, storage=storage, sampler=sampler, pruner=pruner)
        except Exception as error:  # SQLAlchemy's and Optuna's errors have no common base
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ToolError(EXIT_IO if isinstance(error, OSError) else EXIT_BAD_DATA,
                            f"{file}: cannot be used as the search's storage: {reason}") from error

    def _distribution(self, param: Param):
        d = self._optuna.distributions
        if param.choices:
            return d.CategoricalDistribution(param.choices)
        low, high = param.bounds()
        kind = d.IntDistribution if param.whole else d.FloatDistribution
        return kind(low, high, log=param.scale == "log")

    def attributes(self) -> dict:
        return self._study.user_attrs

    def set_attribute(self, key: str, value) -> None:
        self._study.set_user_attr(key, value)

    def ask(self) -> tuple[int, dict]:
        trial = self._study.ask(self._distributions)
        self._trials[trial.number] = trial
        return trial.number, dict(trial.params)

    def interrupted(self) -> list[tuple[int, dict]]:
        """Trials that were asked for and never told about. One without all its values never began."""
        out = []
        for frozen in self._study.get_trials(states=(self._optuna.trial.TrialState.RUNNING,)):
            if set(frozen.params) != set(self._names):
                self._study.tell(frozen.number, state=self._optuna.trial.TrialState.FAIL)
                continue
            self._trials[frozen.number] = self._optuna.trial.Trial(self._study, frozen._trial_id)
            out.append((frozen.number, dict(frozen.params)))
        return out

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Notes the error after an epoch; true if the trial is to be given up."""
        trial = self._trials[number]
        if epoch not in self._study.trials[number].intermediate_values:
            trial.report(value, epoch)
        return trial.should_prune()

    def tell(self, number: int, state: str, value: float | None, info: dict) -> None:
        """`state`: complete, pruned or failed."""
        self._trials[number].set_user_attr("info", info)
        states = self._optuna.trial.TrialState
        if state == "complete":
            self._study.tell(number, value)
        else:
            self._study.tell(number, state=states.PRUNED if state == "pruned" else states.FAIL)
        del self._trials[number]

    def trials(self) -> list[dict]:
        """Those that have been told about: number, state, value, drawn, info."""
        states = self._optuna.trial.TrialState
        names = {states.COMPLETE: "complete", states.PRUNED: "pruned", states.FAIL: "failed"}
        return [{"number": t.number, "state": names[t.state], "value": t.value, "drawn": dict(t.params),
                 "info": t.user_attrs["info"]}
                for t in self._study.trials if t.state in names and "info" in t.user_attrs]

    def close(self) -> None:
        self._study._storage.remove_session()


if __name__ == "__main__":
    sys.exit("part of tune.py")
