"""`equishard rules`: its lists are those by which configurations are read."""
import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

checks = job.Checks()
folder = tempfile.TemporaryDirectory()
MANIFEST = pathlib.Path(folder.name) / "model.json"
MANIFEST.write_text(json.dumps({"parameters": [{"name": "layers.0.w", "shape": [64, 32], "module_type": "Linear"}]}))
# Values of keys that have no names to choose from, and what some names ask for besides.
VALUES = {"alpha": 0.5, "beta": 0.5, "betas": [0.5, 0.9], "block": 16, "center": True, "eps": 1e-6, "grid": "1x1", "lr": 0.1,
          "match": {"name": "w"}, "restarts": [2], "schedule": "constant", "split": [32, 32], "steps": 3, "weight_decay": 0.1}
CUSTOM = {"solver": "custom", "coefficients": [[1.5, -0.5, 0]]}
WITH = {"head_dim": {"layout": "heads_qkv", "head_dim": 16}, "coefficients": CUSTOM}


def command(*arguments, status=0):
    result = job.finish([job.COMMAND, *arguments])
    checks.that(result.returncode == status, f"equishard {' '.join(map(str, arguments))}: status {result.returncode}, not "
                f"{status}\n{result.stdout}{result.stderr}")
    return result


def plan(configuration, status=0):
    """A configuration; JSON is YAML."""
    path = pathlib.Path(folder.name) / "configuration.yaml"
    path.write_text(json.dumps(configuration))
    return command("plan", "--config", path, "--manifest", MANIFEST, "--format", "json", status=status)


def groups(rule, listed):
    """A group for every key of a rule, and for every name that it can be set to."""
    for key in rule["keys"]:
        for name in listed["values"].get(key, [None]):
            if key == "rule":
                continue
            group = {"match": {"name": "nothing"}, "rule": rule["name"], "lr": 0.1}
            group |= WITH.get(key) or {key: name if name is not None else VALUES[key]}
            if name == "custom" or key == "normalisation":
                group |= CUSTOM
            if name == "polar_first" and rule["name"] in ("row_norm", "hybrid"):
                continue
            if key == "form" and "eps" in rule["keys"]:
                group["solver"] = "polar_express_5"  # not damped: it has all forms
            yield group


text = command("rules", "--format", "json").stdout
listed = json.loads(text)
rest = {"rule": "adamw", "lr": 0.1}
names = [rule["name"] for rule in listed["rules"]]
checks.that(names == listed["values"]["rule"] and len(names) >= 7, f"rules {names}")
keys = [key["name"] for key in listed["keys"]]
checks.that(len(set(keys)) == len(keys) and all(key["about"] and key["value"] for key in listed["keys"]), f"keys {listed['keys']}")
checks.that(set(keys) == {key for rule in listed["rules"] for key in rule["keys"]}, "every key is a rule's, and a key")

# What is listed is accepted; the plan takes it all in one configuration.
every = [group for rule in listed["rules"] for group in groups(rule, listed)]
plan({"groups": every + [rest]})
choices = [listed["values"][key] for key in ("mode", "reduce", "on_nonfinite")]
for mode, reduce, on_nonfinite in zip(*choices, strict=True):
    plan({"mode": mode, "reduce": reduce, "on_nonfinite": on_nonfinite, "groups": [rest],
          "roles": {str(index): name for index, name in enumerate(listed["values"]["role"])}})

# Defaults say what is: with all of them written out, the plan is the same.
parameters = [{"name": rule, "shape": [64, 32], "module_type": "Linear"} for rule in names]
MANIFEST.write_text(json.dumps({"parameters": parameters}))
bare = [{"match": {"name": rule}, "rule": rule, "lr": 0.1} for rule in names]
written = [group | {key: value for key, value in rule["keys"].items()
                    if value is not None and key not in ("center", "normalisation")}
           for group, rule in zip(bare, listed["rules"])]
plans = [json.loads(plan({"groups": chosen}).stdout) for chosen in (bare, written)]
checks.that(plans[0] == plans[1] and [entry["rule"] for entry in plans[0]] == names, f"{written}: {plans}")

# What is not listed is refused, and the message has all that is.
for key in keys:
    rule = next(rule["name"] for rule in listed["rules"] if key in rule["keys"])
    if key in listed["values"]:
        result = plan({"groups": [{"rule": rule, "lr": 0.1, key: "nonsense"}]}, status=2)
        checks.that("configuration.yaml:1:" in result.stderr and "nonsense" in result.stderr
                    and all(name in result.stderr for name in listed["values"][key]), f"{key}: {result.stderr}")
    for other in [rule["name"] for rule in listed["rules"] if key not in rule["keys"]][:1]:
        result = plan({"groups": [{"rule": other, "lr": 0.1, key: 1}]}, status=2)
        checks.that("configuration.yaml:1:" in result.stderr and f"{other} does not use {key}" in result.stderr,
                    f"{other}, {key}: {result.stderr}")
for mapping, expected in listed["mappings"].items():
    wrong = {"nonsense": 1}
    configuration = {"groups": [rest | {mapping: wrong}]} if mapping in ("match", "split") else {mapping: wrong, "groups": [rest]}
    if mapping == "configuration":
        configuration = wrong
    if mapping == "roles":
        configuration = {"roles": {"*": wrong}, "groups": [rest]}
    if mapping == "split":
        configuration["groups"][0]["rule"] = "muon"
    result = plan(configuration, status=2)
    checks.that("nonsense" in result.stderr and all(key in result.stderr for key in expected), f"{mapping}: {result.stderr}")

table = command("rules").stdout
for word in names + keys + [name for values in listed["values"].values() for name in values]:
    checks.that(word in table, f"the table has {word}")
checks.that(command("rules", "--format", "table").stdout == table, "a table by default")
command("rules", "--format", "xml", status=2)
command("rules", "muon", status=2)
sys.exit(checks.failed > 0)
