"""Writes models as other frameworks export them, each with a schema, sample requests, and the scores that ONNX Runtime
gives the model as it is, called as its framework would call it. cases.json says how each is to be wrapped, or refused."""

import json
import random

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

S, D = 3, 4
SCHEMA = """
[features]
user = [
    { name = "age", kind = "numeric" },
    { name = "country", kind = "categorical", vocabulary = ["A", "B"], unknown = "zeros" },
]
item = [
    { name = "price", kind = "numeric" },
    { name = "kind", kind = "categorical", vocabulary = ["X", "Y", "Z"], unknown = "zeros" },
]
"""
IDS = ["a", "b", "c", "d", "e"]
BY_ID = """
[features]
user = [
    { name = "age", kind = "numeric" },
    { name = "country", kind = "categorical", vocabulary = ["A", "B"], unknown = "zeros" },
]
item_id = { kind = "index", vocabulary = ["a", "b", "c", "d", "e"], spare = 1 }
"""
rng = random.Random(7)
numpy.random.seed(7)
cases = []


def one_hot(value, vocabulary):
    return [float(value == known) for known in vocabulary]


def sample(candidates):
    def item(identifier):
        return {"id": identifier, "features": {"price": round(rng.gauss(0, 1), 3), "kind": rng.choice("XYZ")}}

    user = {"age": round(rng.gauss(0, 1), 3), "country": rng.choice("AB")}
    return {"user": user, "candidates": [item(identifier) for identifier in rng.sample(IDS, candidates)]}


def encode(request, by_id):
    user = request["user"]
    state = numpy.array([user["age"], *one_hot(user["country"], "AB")], dtype=numpy.float32)
    if by_id:
        return state, numpy.array([[IDS.index(item["id"]) + 1] for item in request["candidates"]], dtype=numpy.float32)
    features = [item["features"] for item in request["candidates"]]
    rows = [[feature["price"], *one_hot(feature["kind"], "XYZ")] for feature in features]
    return state, numpy.array(rows, dtype=numpy.float32)


def weights(*shape, dtype=numpy.float32):
    return (numpy.random.randn(*shape) * 0.7).astype(dtype)


def tensor(name, dtype, shape):
    return helper.make_tensor_value_info(name, dtype, shape)


F, F64, I64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64


def model(nodes, inputs, outputs, constants=(), opset=17, ir=8, constants_are_inputs=False):
    constants = dict(constants)
    if constants_are_inputs:
        inputs = inputs + [tensor(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape) for name, array in constants.items()]
    graph = helper.make_graph(
        nodes, "g", inputs, outputs, [numpy_helper.from_array(array, name) for name, array in constants.items()]
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir, producer_name="framework", producer_version="1.0")
    onnx.checker.check_model(made, full_check=not constants_are_inputs)
    return made


def write(name, made, args=(), feed=None, read=None, schema=SCHEMA, by_id=False, extra=None, appeal=None, save=None, **expect):
    """`feed(state, items, request)` makes the model's own inputs, `read(outputs)` a score for each candidate."""
    if save:
        save(made, f"{name}.onnx")
    else:
        onnx.save(made, f"{name}.onnx")
    with open(f"{name}.toml", "w") as file:
        file.write(schema)
    if feed:
        session = onnxruntime.InferenceSession(f"{name}.onnx", providers=["CPUExecutionProvider"])
        with open(f"{name}.jsonl", "w") as file:
            for candidates in [1, 2, 3, 4, 5, 5, 2]:
                request = sample(candidates) | (extra() if extra else {})
                given = [output.name for output in session.get_outputs()]
                state, items = encode(request, by_id)
                outputs = dict(zip(given, session.run(None, feed(state, items, request))))
                request["scores"] = [float(score) for score in read(outputs)]
                if appeal:
                    request["appeal"] = [float(weight) for weight in appeal(outputs)]
                print(json.dumps(request), file=file)
    cases.append({"name": name, "args": list(args), "samples": feed is not None, **expect})


def lists(names=("state", "items"), out="scores", batch="n", candidates="c", rank=2, columns=None, mask=None, dtype=F, **more):
    """state Ws + items Wi, all candidates of a request at once."""
    state, items = names
    last = [] if rank == 2 else [columns or 1]
    width = columns or 1
    numpy_type = helper.tensor_dtype_to_np_dtype(dtype)
    constants = {"ws": weights(S, width, dtype=numpy_type), "wi": weights(D, width, dtype=numpy_type), "one": numpy.array([1], dtype=numpy.int64), "last": numpy.array([2], dtype=numpy.int64)}
    nodes = [
        helper.make_node("MatMul", [state, "ws"], ["hs"]),
        helper.make_node("Unsqueeze", ["hs", "one"], ["hs3"]),
        helper.make_node("MatMul", [items, "wi"], ["hi"]),
        helper.make_node("Add", ["hs3", "hi"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["wide"] if rank == 2 else [out]),
    ]
    if rank == 2:
        nodes.append(helper.make_node("Squeeze", ["wide", "last"], [out]))
    inputs = [tensor(state, dtype, [batch, S]), tensor(items, dtype, [batch, candidates, D])]
    return model(nodes, inputs, [tensor(out, dtype, [batch, candidates, *last])], constants, **more)


def rows(inputs_of, width, out_rank=2, columns=1, dtype=F, leading="n", name="X", out="variable", **more):
    """X W, one candidate a row."""
    numpy_type = helper.tensor_dtype_to_np_dtype(dtype)
    constants = {"w": weights(width, columns, dtype=numpy_type), "flat": numpy.array([-1], dtype=numpy.int64)}
    nodes = [helper.make_node("MatMul", [name, "w"], ["h"]), helper.make_node("Tanh", ["h"], ["wide"])]
    if out_rank == 1:
        nodes.append(helper.make_node("Reshape", ["wide", "flat"], [out]))
        shape = [leading]
    else:
        nodes.append(helper.make_node("Identity", ["wide"], [out]))
        shape = [leading, columns]
    return model(nodes, [tensor(name, dtype, [leading, inputs_of])], [tensor(out, dtype, shape)], constants, **more)


def listed(names, dtype=numpy.float32):
    return lambda state, items, request: {names[0]: state[None].astype(dtype), names[1]: items[None].astype(dtype)}


def rowed(name="X", dtype=numpy.float32, order="si"):
    def feed(state, items, request):
        parts = {"s": numpy.repeat(state[None], len(items), axis=0), "i": items}
        return {name: numpy.concatenate([parts[part] for part in order], axis=1).astype(dtype)}

    return feed


def one_by_one(feed):
    """A feed for models of which the first axis is always 1 has nothing to change: samples are single requests."""
    return feed


first = lambda out, column=0: lambda outputs: outputs[out].reshape(len(outputs[out]), -1)[:, column]
whole = lambda out: lambda outputs: outputs[out].reshape(-1)

# All candidates of a request at once.
write("as-is", lists(), feed=listed(("state", "items")), read=whole("scores"), scorer="lists", as_is=True)
write("renamed", lists(("users", "things"), "logits"), ["--input", "users=state", "--input", "things=items"], listed(("users", "things")), whole("logits"), scorer="lists")
write("by-width", lists(("u", "t"), "y"), feed=listed(("u", "t")), read=whole("y"), scorer="lists")
write("last-axis", lists(rank=3), feed=listed(("state", "items")), read=whole("scores"), scorer="lists")
write("last-column", lists(rank=3, columns=3), ["--column", "2"], listed(("state", "items")), lambda outputs: outputs["scores"][0, :, 2], scorer="lists")
write("last-column-said", lists(rank=3, columns=3), [], listed(("state", "items")), lambda outputs: outputs["scores"][0, :, 1], SCHEMA + '\n[outputs]\nscores = { tensor = "scores", column = 1 }\n\n[inputs]\nstate = ["user"]\nitems = "items"\n', scorer="lists")
write("doubles", lists(dtype=F64), feed=listed(("state", "items"), numpy.float64), read=whole("scores"), scorer="lists")
write("one-list", lists(batch=1), feed=listed(("state", "items")), read=whole("scores"), scorer="lists")
write("old-opset", rows(S + D, S + D, opset=8, ir=3, constants_are_inputs=True), feed=rowed(), read=first("variable"), scorer="rows")

# One candidate a row.
write("rows", rows(S + D, S + D), feed=rowed(), read=first("variable"), scorer="rows")
write("rows-flat", rows(S + D, S + D, out_rank=1), feed=rowed(), read=whole("variable"), scorer="rows")
write("rows-any-width", rows(None, S + D), feed=rowed(), read=first("variable"), scorer="rows")
write("rows-doubles", rows(S + D, S + D, dtype=F64), feed=rowed(dtype=numpy.float64), read=first("variable"), scorer="rows")
write("rows-turned", rows(S + D, S + D), ["--input", "X=items+state"], rowed(order="is"), first("variable"), scorer="rows")
write("rows-items", rows(D, D), feed=rowed(order="i"), read=first("variable"), scorer="rows")
write("rows-column", rows(S + D, S + D, columns=3), ["--column", "1"], rowed(), first("variable", 1), scorer="rows")


def one_row(state, items, request):
    return {"X": numpy.concatenate([state, items[0]])[None].astype(numpy.float32)}


# Only requests of one candidate can be asked of the model as it is; the rows behind them must then be its too.
single = rows(S + D, S + D, leading=1)
onnx.save(single, "one-row.onnx")
session = onnxruntime.InferenceSession("one-row.onnx", providers=["CPUExecutionProvider"])
with open("one-row.toml", "w") as file:
    file.write(SCHEMA)
with open("one-row.jsonl", "w") as file:
    for candidates in [1, 3, 5]:
        request = sample(candidates)
        state, items = encode(request, False)
        request["scores"] = [float(session.run(None, one_row(state, items[row:], request))[0][0, 0]) for row in range(candidates)]
        print(json.dumps(request), file=file)
cases.append({"name": "one-row", "args": [], "samples": True, "scorer": "rows"})

# A column for each feature, as skl2onnx makes of a data frame, and integers.
columns = model(
    [
        helper.make_node("Cast", ["price"], ["p"], to=F),
        helper.make_node("Mul", ["age", "p"], ["ap"]),
        helper.make_node("MatMul", ["kind", "wk"], ["k"]),
        helper.make_node("Add", ["ap", "k"], ["y"]),
    ],
    [tensor("age", F, ["n", 1]), tensor("price", TensorProto.DOUBLE, ["n", 1]), tensor("kind", F, ["n", 3])],
    [tensor("y", F, ["n", 1])],
    {"wk": weights(3, 1)},
)
write(
    "columns",
    columns,
    ["--input", "age=user.age", "--input", "price=item.price", "--input", "kind=item.kind"],
    lambda state, items, request: {"age": numpy.full((len(items), 1), state[0], dtype=numpy.float32), "price": items[:, :1].astype(numpy.float64), "kind": items[:, 1:]},
    first("y"),
    scorer="rows",
)

# A table of items, looked up by their place: a row for each, or a list of them.
table = {"table": weights(7, S)}
of_rows = model(
    [helper.make_node("Gather", ["table", "id"], ["e"]), helper.make_node("Mul", ["e", "user"], ["m"]), helper.make_node("ReduceSum", ["m", "axes"], ["y"], keepdims=0)],
    [tensor("id", I64, ["n"]), tensor("user", F, ["n", S])],
    [tensor("y", F, ["n"])],
    table | {"axes": numpy.array([1], dtype=numpy.int64)},
)
write(
    "table-rows",
    of_rows,
    ["--input", "id=item_id", "--input", "user=state"],
    lambda state, items, request: {"id": items[:, 0].astype(numpy.int64), "user": numpy.repeat(state[None], len(items), axis=0)},
    whole("y"),
    BY_ID,
    by_id=True,
    scorer="rows",
)
of_lists = model(
    [
        helper.make_node("Gather", ["table", "ids"], ["e"]),
        helper.make_node("Unsqueeze", ["user", "last"], ["u"]),
        helper.make_node("MatMul", ["e", "u"], ["m"]),
        helper.make_node("Squeeze", ["m", "last"], ["y"]),
    ],
    [tensor("ids", I64, ["n", "c"]), tensor("user", F, ["n", S])],
    [tensor("y", F, ["n", "c"])],
    table | {"last": numpy.array([2], dtype=numpy.int64)},
)
write(
    "table-lists",
    of_lists,
    ["--input", "ids=item_id", "--input", "user=user", "--scorer", "lists"],
    lambda state, items, request: {"ids": items.T.astype(numpy.int64), "user": state[None]},
    whole("y"),
    BY_ID,
    by_id=True,
    scorer="lists",
)


def mean_of_others(takes_mask, mask_type=TensorProto.BOOL, batch="n"):
    """Looks across candidates: each score is less by the mean of all."""
    nodes = [helper.make_node("MatMul", ["items", "wi"], ["h"]), helper.make_node("Squeeze", ["h", "last"], ["own"])]
    inputs = [tensor("items", F, [batch, "c", D])]
    if takes_mask:
        inputs.append(tensor("valid", mask_type, [batch, "c"]))
        nodes += [
            helper.make_node("Cast", ["valid"], ["m"], to=F),
            helper.make_node("Mul", ["own", "m"], ["kept"]),
            helper.make_node("ReduceSum", ["kept", "one"], ["total"], keepdims=1),
            helper.make_node("ReduceSum", ["m", "one"], ["count"], keepdims=1),
            helper.make_node("Div", ["total", "count"], ["mean"]),
        ]
    else:
        nodes.append(helper.make_node("ReduceMean", ["own"], ["mean"], axes=[1], keepdims=1))
    nodes.append(helper.make_node("Sub", ["own", "mean"], ["out"]))
    constants = {"wi": weights(D, 1), "last": numpy.array([2], dtype=numpy.int64), "one": numpy.array([1], dtype=numpy.int64)}
    return model(nodes, inputs, [tensor("out", F, [batch, "c"])], constants)


masked = lambda dtype: lambda state, items, request: {"items": items[None], "valid": numpy.ones((1, len(items)), dtype=dtype)}
write("mask", mean_of_others(True), ["--input", "valid=mask"], masked(bool), whole("out"), scorer="lists")
write("mask-floats", mean_of_others(True, F), ["--input", "valid=mask"], masked(numpy.float32), whole("out"), scorer="lists")
write("mask-one-list", mean_of_others(True, batch=1), ["--input", "valid=mask"], masked(bool), whole("out"), scorer="lists")

# A history, in a model that reads it as doubles and its length as a 32-bit integer; one list at a time as well.
H = 2
SESSION = "\n[session]\nhistory = 2\n"


def history(batch="n"):
    return model(
        [
            helper.make_node("Cast", ["past"], ["p"], to=F),
            helper.make_node("ReduceSum", ["p", "both"], ["sum"], keepdims=0),
            helper.make_node("Cast", ["length"], ["l"], to=F),
            helper.make_node("Add", ["sum", "l"], ["h"]),
            helper.make_node("Unsqueeze", ["h", "one"], ["h2"]),
            helper.make_node("MatMul", ["items", "wi"], ["i3"]),
            helper.make_node("Squeeze", ["i3", "last"], ["i"]),
            helper.make_node("Mul", ["i", "h2"], ["y"]),
        ],
        [tensor("items", F, [batch, "c", D]), tensor("past", F64, [batch, H, D + 2]), tensor("length", TensorProto.INT32, [batch])],
        [tensor("y", F, [batch, "c"])],
        {"wi": weights(D, 1), "both": numpy.array([1, 2], dtype=numpy.int64), "one": numpy.array([1], dtype=numpy.int64), "last": numpy.array([2], dtype=numpy.int64)},
    )


def with_history(state, items, request):
    past = numpy.zeros((1, H, D + 2))
    for index, row in enumerate(request["history"]):
        past[0, index] = row
    return {"items": items[None], "past": past, "length": numpy.array([len(request["history"])], dtype=numpy.int32)}


some_history = lambda: {"history": [[round(rng.gauss(0, 1), 3) for _ in range(D + 2)] for _ in range(rng.randint(0, H))]}
for name, batch in [("history", "n"), ("history-one-list", 1)]:
    write(name, history(batch), ["--input", "past=history", "--input", "length=history_length"], with_history, whole("y"), SCHEMA + SESSION, extra=some_history, scorer="lists", needs_history=True)

# Noise for posterior sampling.
noisy = model(
    [
        helper.make_node("MatMul", ["items", "wi"], ["i3"]),
        helper.make_node("Squeeze", ["i3", "last"], ["i"]),
        helper.make_node("ReduceSum", ["z", "one"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["i", "sum"], ["y"]),
    ],
    [tensor("items", F, ["n", "c", D]), tensor("z", F, ["n", 2])],
    [tensor("y", F, ["n", "c"])],
    {"wi": weights(D, 1), "one": numpy.array([1], dtype=numpy.int64), "last": numpy.array([2], dtype=numpy.int64)},
)
write(
    "noise",
    noisy,
    ["--input", "z=noise", "--exploration", "posterior_sampling:16"],
    lambda state, items, request: {"items": items[None], "z": numpy.array([request["noise"]], dtype=numpy.float32)},
    whole("y"),
    extra=lambda: {"noise": [round(rng.gauss(0, 1), 3), round(rng.gauss(0, 1), 3)]},
    scorer="lists",
    needs_history=True,
)

# Two outputs, for a choice model.
both = model(
    [
        helper.make_node("MatMul", ["X", "w"], ["value"]),
        helper.make_node("MatMul", ["X", "v"], ["h"]),
        helper.make_node("Exp", ["h"], ["weight"]),
    ],
    [tensor("X", F, ["n", S + D])],
    [tensor("value", F, ["n", 1]), tensor("weight", F, ["n", 1])],
    {"w": weights(S + D, 1), "v": weights(S + D, 1)},
)
write(
    "appeal",
    both,
    ["--output", "scores=value", "--output", "appeal=weight"],
    rowed(),
    first("value"),
    SCHEMA + '\n[objective]\nmethod = "top_k"\nno_choice = 1.0\n',
    appeal=first("weight"),
    scorer="rows",
    needs_history=True,
)

# Names that are the signature's, for other things; and a branch that reads names from outside.
then = helper.make_graph([helper.make_node("MatMul", ["items", "scores"], ["then_out"])], "then", [], [tensor("then_out", F, None)])
other = helper.make_graph([helper.make_node("Identity", ["state"], ["else_out"])], "else", [], [tensor("else_out", F, None)])
confused = model(
    [
        helper.make_node("Identity", ["X"], ["items"]),
        helper.make_node("MatMul", ["items", "before/constant-0"], ["state"]),
        helper.make_node("If", ["yes"], ["model/scores"], then_branch=then, else_branch=other),
        helper.make_node("Add", ["model/scores", "state"], ["mask"]),
    ],
    [tensor("X", F, ["batch", S + D])],
    [tensor("mask", F, ["batch", 1])],
    {"scores": weights(S + D, 1), "before/constant-0": weights(S + D, 1), "yes": numpy.array(True)},
)
write("confusing-names", confused, feed=rowed(), read=first("mask"), scorer="rows")

# Weights in a file beside the model.
write("weights-beside", rows(S + D, S + D), feed=rowed(), read=first("variable"), scorer="rows", save=lambda made, path: onnx.save(made, path, save_as_external_data=True, location="weights-beside.bin", size_threshold=0))

# What is refused, and why.
refused = lambda name, made, error, args=(), code=3, **more: write(name, made, args, error=error, code=code, **more)
refused("bad-width", rows(S + D + 1, S + D + 1), "input `X` (float32[?, 8]): what it takes cannot be told, where `state` is 3 wide and `items` 4")
refused("bad-width-said", rows(S + D + 1, S + D + 1), "input `X` (float32[?, 8]): is fed with `state[0..3]+items[0..4]`, expected [rows, 7]", ["--input", "X=state+items"])
refused("bad-input", lists(), "the model has no input `users`", ["--input", "users=state"])
refused("bad-source", lists(), "`user.size` is not known", ["--input", "state=user.size"])
refused("bad-output", lists(), "the model has no output `logits`; it has `scores` (float32[?, ?])", ["--output", "scores=logits"])
refused("bad-kind-of-output", lists(), "`values` is no output of a policy", ["--output", "values=scores"])
refused("bad-column", rows(S + D, S + D, columns=3), "output `variable` (float32[?, 3]): has 3 columns, so there is no column 3", ["--column", "3"])
refused("no-column", rows(S + D, S + D, columns=3), "output `variable` (float32[?, 3]): has 3 columns; say by `--column N`")
refused("batch-of-four", rows(S + D, S + D, leading=4), "input `X` (float32[4, 7]): always takes 4 at its first axis")
refused("five-candidates", lists(candidates=5), "input `items` (float32[?, 5, 4]): always takes 5 candidates")
refused("no-items", rows(S, S), "input `X` (float32[?, 3]): what it takes cannot be told")
refused("state-only", rows(S, S), "no input takes what is known of the candidates", ["--input", "X=state"])
text = model([helper.make_node("Identity", ["word"], ["label"])], [tensor("word", TensorProto.STRING, ["n", 1])], [tensor("label", TensorProto.STRING, ["n", 1])])
refused("texts", text, "input `word` (string[?, 1]): is fed with numbers", ["--input", "word=item.price"])
refused("bad-noise", noisy, "posterior sampling needs a noise input", ["--input", "z=noise"])
refused("bad-exploration", lists(), "`temperature` is 0", ["--exploration", "softmax:0"])
refused("too-old", rows(S + D, S + D, opset=7, ir=3, constants_are_inputs=True), "the model is of opset 7; export it with opset 8 or later")
refused("no-history", history(), "so `session.history` must say how long", ["--input", "past=history", "--input", "length=history_length"])

# What is wrapped and proven wrong.
wrong = lambda name, made, error, feed, read, args=(), **more: write(name, made, args, feed, read, error=error, code=5, **more)
wrong("wrong-order", rows(S + D, S + D), "by the framework", rowed(order="is"), first("variable"))
wrong("looks-across", mean_of_others(False), "must take a mask", lambda state, items, request: {"items": items[None]}, whole("out"))
dice = model(
    [helper.make_node("RandomNormalLike", ["X"], ["r"], scale=1e-7), helper.make_node("Add", ["X", "r"], ["x"]), helper.make_node("MatMul", ["x", "w"], ["y"])],
    [tensor("X", F, ["n", S + D])],
    [tensor("y", F, ["n", 1])],
    {"w": weights(S + D, 1)},
)
wrong("dice", dice, "other scores each time it is run", rowed(), first("y"), ["--tolerance", "0.01"])
fixed = model(
    [helper.make_node("Reshape", ["X", "shape"], ["x"]), helper.make_node("MatMul", ["x", "w"], ["y"])],
    [tensor("X", F, ["n", S + D])],
    [tensor("y", F, ["n", 1])],
    {"w": weights(S + D, 1), "shape": numpy.array([2, S + D], dtype=numpy.int64)},
)
write("fixed-inside", fixed, error="an axis that is declared dynamic may be fixed inside the graph", code=5)
infinite = model(
    [helper.make_node("MatMul", ["X", "w"], ["h"]), helper.make_node("Div", ["one", "h"], ["y"])],
    [tensor("X", F, ["n", S + D])],
    [tensor("y", F, ["n", 1])],
    {"w": weights(S + D, 1), "one": numpy.array(1, dtype=numpy.float32)},
)
write("not-finite", infinite, error="scores must be finite", code=5)

with open("cases.json", "w") as file:
    json.dump(cases, file)
