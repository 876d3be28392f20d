"""Models that cannot be trained as they are given, and models that change after the optimizer was made: a message that names
the parameter and the remedy, and status 2; never a parameter that is quietly not trained."""
import pathlib
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

CONFIG = "mode: embedded\ngroups: [{match: {}, rule: adamw, lr: 0.01}]"
checks = job.Checks()


def refused(words, call, what):
    """Whether a call raises a usage error with all the words in it, and status 2."""
    try:
        call()
    except ValueError as error:
        checks.that(getattr(error, "status", None) == 2, f"{what}: status {getattr(error, 'status', None)}: {error!r}")
        for word in words:
            checks.that(word in str(error), f"{what}: {word!r} is not in: {error}")
    else:
        checks.that(False, f"{what}: no error")


class Listed(torch.nn.Module):
    """Parameters in a plain list: no module has them."""

    def __init__(self, **more):
        super().__init__()
        self.head = torch.nn.Linear(2, 2)
        self.extra = [torch.nn.Parameter(torch.ones(2), **more)]


class Holding(torch.nn.Module):
    """Something in a plain attribute."""

    def __init__(self, held):
        super().__init__()
        self.head = torch.nn.Linear(2, 2)
        self.held = held


class Outer(torch.nn.Module):
    """A wrapper, by its attribute's name, with buffers of its own."""

    def __init__(self, name):
        super().__init__()
        self.module = linear()
        self.module.register_buffer("mean", torch.zeros(2))
        self.register_buffer(name, torch.ones(2))


def linear(dtype=torch.float32, **more):
    return torch.nn.Linear(3, 2, dtype=dtype, **more)


def at_construction(equishard):
    leaf = torch.ones(3, requires_grad=True)
    shared = linear()
    shared.second = torch.nn.Parameter(shared.weight.data)
    frozen = linear().requires_grad_(False)
    cases = {
        "parameters()": (linear().parameters(), ["item 0", "(2, 3)", "named_parameters()"]),
        "list of tensors": (list(linear().parameters()), ["item 0", "without a name"]),
        "list of dicts": ([{"params": linear().parameters(), "lr": 0.1}], ["item 0", "`groups`"]),
        "parameter": (torch.nn.Parameter(torch.ones(2)), ["in no module"]),
        "state_dict": (linear().state_dict(), ["items()"]),
        "number": (7, ["int"]),
        "pairs turned": ([(torch.ones(2), "w")], ["item 0"]),
        "meta": (linear(device="meta"), ["'weight'", "meta", "to_empty"]),
        "sparse": ([("w", torch.eye(3).to_sparse().requires_grad_())], ["'w'", "sparse", "to_dense()"]),
        "integer": ([("count", torch.ones(3, dtype=torch.int64))], ["'count'", "int64", "buffer"]),
        "float64": (linear(dtype=torch.float64), ["'weight'", "float64", "model.float()"]),
        "complex": (linear(dtype=torch.complex64), ["'weight'", "complex64"]),
        "not a leaf": ([("w", leaf * 2)], ["'w'", "leaf"]),
        "in a list": (Listed(), ["'extra[0]'", "ParameterList"]),
        "a module in a list": (Holding([linear()]), ["'held[0].weight'", "nn.ModuleList"]),
        "a module deep inside": (Holding({"a": ([], {"b": [linear()]})}), ["'held['a'][1]['b'][0].weight'", "nn.ModuleDict"]),
        "lazy": (torch.nn.LazyLinear(2), ["'weight'", "LazyLinear", "run the model once"]),
        "expanded": ([("w", torch.nn.Parameter(torch.ones(1, 3).expand(4, 3)))], ["'w'", "expanded", "clone()"]),
        "buffers of one name": (Outer("mean"), ["'module.mean'", "both 'mean'", "buffers=False"]),
        "resume of a wrong type": (linear(), ["resume is 3"], {"resume": 3}),
        "one placement": (linear(), ["'weight'", '("Partial", "Replicate")'], {"placements": {"weight": "Partial"}}),
        "placements of a wrong type": (linear(), ["placements is a list"], {"placements": ["weight"]}),
        "a shape of a wrong type": (linear(), ["'weight' has 7", "sizes"], {"shapes": {"weight": 7}}),
        "a shape of no parameter": (linear(), ["x"], {"shapes": {"x": 7}}),
        "grad_scaler of a wrong type": (linear(), ["grad_scaler is a int"], {"grad_scaler": 3}),
        "same memory": (shared, ["'weight'", "'second'", "one object"]),
        "nothing to train": (frozen, ["nothing to train"]),
        "nothing": ([], ["nothing to train"]),
        "placement": (linear(), ["'weight'", "Shard(1)"], {"gradient_placement": "Shard(1)"}),
        "no such placement": (linear(), ["nothing.weight"], {"placements": {"nothing.weight": ("Partial", "Replicate")}}),
        "no shape": (linear(), ["'weight'", "shapes="], {"weight_placement": "Shard(0)"}),
    }
    for what, (model, words, *more) in cases.items():
        refused(words, lambda: equishard.Optimizer(model, CONFIG, **(more[0] if more else {})), what)
    refused(["configuration"], lambda: equishard.Optimizer(linear()), "no configuration")
    refused(["int"], lambda: equishard.Optimizer(linear(), 7), "configuration of a wrong type")
    refused(["mod"], lambda: equishard.Optimizer(linear(), {"mod": "embedded"}), "unknown key")
    refused(["overrides"], lambda: equishard.Optimizer(linear(), CONFIG, overrides=["x"]), "overrides of a wrong type")
    with equishard.Optimizer(linear(), CONFIG) as optimizer:
        refused(["'weight'", "is pushed with 3"], lambda: optimizer.push("weight", 3), "a gradient of a wrong type")
        refused(["number", "'x'"], lambda: optimizer.set_lr_factor("x"), "a factor of a wrong type")
        refused(["finite", "nan"], lambda: optimizer.set_lr_factor(float("nan")), "a factor that is none")
        refused(["text", "3"], lambda: optimizer.trainer_data(3), "a key of a wrong type")
    # What is held without a gradient, or also in its place, and where modules keep lists of their own parameters, is none
    # of it.
    known = Holding([])
    known.held.append([known, known.head])
    for model in (Listed(requires_grad=False), torch.nn.LSTM(2, 2), known, Holding([linear().requires_grad_(False)]),
                  Outer("other")):
        equishard.Optimizer(model, CONFIG).close()


def step(optimizer, model):
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def two_layers():
    return torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.0), torch.nn.Linear(3, 3))


def replace_parameter(model):
    model[0].weight = torch.nn.Parameter(torch.zeros(3, 3))


def replace_module(model):
    model[2] = torch.nn.Linear(3, 3)


def add_parameter(model):
    model[0].scale = torch.nn.Parameter(torch.ones(1))


def add_module(model):
    model.append(torch.nn.Linear(3, 3))


def remove_parameter(model):
    model[2].bias = None


def tie(model):
    model[2].weight = model[0].weight


def harmless(model):
    model[1] = torch.nn.Identity()


def after_construction(equishard):
    cases = {replace_parameter: ["'0.weight'", "another object", "copy_"], replace_module: ["'2.weight'", "another object"],
             add_parameter: ["'0.scale'", "new since"], add_module: ["'3.weight'", "new since"],
             remove_parameter: ["'2.bias'", "not in the model any more"], tie: ["'2.weight'", "another object"]}
    for change, words in cases.items():
        for with_step in (False, True):
            model = two_layers()
            with equishard.Optimizer(model, CONFIG) as optimizer:
                if with_step:
                    step(optimizer, model)
                change(model)
                refused(words, lambda: step(optimizer, model), f"{change.__name__}{' after a step' * with_step}")
    model = two_layers()
    with equishard.Optimizer(model, CONFIG) as optimizer:
        harmless(model)
        step(optimizer, model)
        step(optimizer, model)
        checks.that(optimizer.step_info().step == 2, "a module without parameters may be another")
        model[2].bfloat16()
        model[0].requires_grad_(False)
        refused(["parameter '2.", "bfloat16", "float32"], optimizer.step, "converted")


def unfrozen(equishard):
    """Not trained until the program is restarted: said, not passed over."""
    model = two_layers()
    model[0].requires_grad_(False)
    with equishard.Optimizer(model, CONFIG) as optimizer:
        step(optimizer, model)
        model[0].weight.requires_grad_(True)
        refused(["'0.weight'", "requires_grad_"], lambda: step(optimizer, model), "unfrozen")
        model[0].weight.requires_grad_(False)
        model[0].weight.grad = None
        before = [parameter.detach().clone() for parameter in model.parameters()]
        step(optimizer, model)
        changed = [not torch.equal(parameter, old) for parameter, old in zip(model.parameters(), before)]
        checks.that(changed == [False, False, True, True], f"frozen ones stay, the others move: {changed}")


def uncaught(equishard):
    """The end of a program that does not catch it, on every trainer."""
    equishard.Optimizer(linear().parameters(), CONFIG)


def main():
    import equishard

    torch.set_num_threads(1)
    if "uncaught" in sys.argv:
        uncaught(equishard)
    at_construction(equishard)
    after_construction(equishard)
    unfrozen(equishard)
    sys.exit(checks.failed > 0)


if "--trainer" in sys.argv:
    main()
result = job.finish([job.PYTHON, __file__, "--trainer"], timeout=60)
checks.that(result.returncode == 0 and not result.stdout, f"status {result.returncode}\n{result.stdout}{result.stderr}")
result = job.run((2, job.PYTHON, __file__, "--trainer", "uncaught"), timeout=60)
checks.that(result.returncode == 2 and result.stderr.count("item 0 of the model") == 1 and "Traceback" not in result.stderr,
            f"uncaught: status {result.returncode}\n{result.stderr}")
# Trainers that end without a session: owners, who have answered who is who, end with them.
ASK = "import equishard; trainers = equishard.trainers(); print(f'{trainers.count} {trainers.sum([1.0, trainers.rank])}\\n', end='')"
result = job.run((3, job.PYTHON, "-c", ASK), job.serve(2), timeout=60)
checks.that(result.returncode == 0 and result.stdout.count("3 [3.0, 3.0]") == 3,
            f"trainers(): status {result.returncode}\n{result.stdout}{result.stderr}")
sys.exit(checks.failed > 0)
