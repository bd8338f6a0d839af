#!/usr/bin/env python3
"""Puts llama.cpp beside lagar on one Llama checkpoint: what its quantizations lose, and how fast they run.

    python3 -m venv target/llama-cpp && target/llama-cpp/bin/pip install llama-cpp-python gguf numpy tokenizers
    target/llama-cpp/bin/python bench/compare/llama_cpp.py quality CHECKPOINT --text VAL --calibration CAL \\
        [--types Q2_K,IQ2_XXS] [--tokens N] [--context N] [--activations f32] [--lagar FILE[@TIER] ...] [--json OUT]
    target/llama-cpp/bin/python bench/compare/llama_cpp.py speed CHECKPOINT \\
        [--types Q4_0,Q2_K] [--lagar FILE[@TIER] ...] [--prompt 128,512] [--context 0,4096] [--json OUT] [--llama-bench OUT]

Both write the checkpoint as a GGUF, `quality` in F32 and `speed` in F16, and let llama.cpp quantize that, in the folder
of --work; what lies there already is used again.

`quality` measures as `lagar eval` does: windows that do not overlap, BOS first where the tokenizer adds one, every
token but the first of a window scored, KL in f64 from the f32 logits of the original, which llama.cpp computes from
the F32 GGUF with an f32 KV cache. The importance matrix holds the mean squares of the inputs of every linear over the
calibration text, read where llama.cpp multiplies, as its own llama-imatrix does; the output head is part of it, even
where it is the embedding, which llama-imatrix leaves out. The quantized models run as llama.cpp runs them by default:
it rounds activations to int8, as lagar does, and keeps an f16 KV cache. With --activations f32 neither side rounds
them, so what the weights alone lose is left; llama.cpp then runs the weights dequantized, which gives the same values.

`speed` loads each model in turn, warms it up, times it, and frees it before the next one runs; `lagar bench` takes its
turn among them. Every second round goes backwards. A type that needs an importance matrix gets one of ones. The
machine must be idle: llama.cpp's threads spin while they wait for each other, so that one busy processor costs far
more than its share. Where llama.cpp's AMX path crashes, --no-repack leaves it out.
"""

import argparse
import collections
import ctypes
import json
import math
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

try:
    import gguf
    import numpy as np
    from llama_checkpoint import Checkpoint, Windows, gguf_name, write_gguf

    # This file has the name of the package that it needs, and Python looks into a script's folder first.
    sys.path = [path for path in sys.path if pathlib.Path(path).resolve() != pathlib.Path(__file__).resolve().parent]
    import llama_cpp
    import llama_cpp._ggml
except ModuleNotFoundError as error:
    sys.exit(f"{__doc__}\nThis Python lacks {error.name}: the first command above installs what is needed.")

QUALITY_TYPES = "IQ1_M,IQ2_XXS,IQ2_XS,IQ2_M,Q2_K,IQ3_XXS,IQ3_S,Q3_K_M,IQ4_XS,Q4_K_M,Q5_K_M,Q6_K"
SPEED_TYPES = "Q8_0,Q4_0,Q4_K_M,IQ4_XS,Q3_K_M,Q2_K,IQ2_XXS,TQ2_0"
NEEDS_IMPORTANCE = {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "Q2_K_S"}
BATCH = 512


def say(text):
    print(text, file=sys.stderr, flush=True)


# llama.cpp


class Log:
    """What llama.cpp says, kept instead of printed."""

    def __init__(self):
        self.text = ""
        self.callback = llama_cpp.llama_log_callback(self.add)
        llama_cpp.llama_log_set(self.callback, ctypes.c_void_p())

    def add(self, _level, text, _user_data):
        self.text += text.decode(errors="replace")

    def take(self):
        text, self.text = self.text, ""
        return text

    def complaint(self):
        """The last lines that sound like an error."""
        lines = [line.strip(" =") for line in self.take().splitlines()]
        said = [line for line in lines if re.search("error|fail|missing|require", line, re.IGNORECASE)]
        return "; ".join(dict.fromkeys(said[-3:])) or "llama.cpp does not say why"


def ggml(name, result, tensor):
    """Calls a function of ggml.h that takes a tensor."""
    function = getattr(llama_cpp._ggml.libggml, f"ggml_{name}")
    function.restype, function.argtypes = result, [ctypes.c_void_p]
    return function(tensor)


class Tensor(ctypes.Structure):
    """ggml_tensor of ggml.h. `check` compares it with what the library says of the same tensor."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
    ]

    def check(self):
        address = ctypes.addressof(self)
        extent = 4 + sum((size - 1) * stride for size, stride in zip(self.ne, self.nb))
        if (
            ggml("get_name", ctypes.c_void_p, address) != address + Tensor.name.offset
            or ggml("get_data", ctypes.c_void_p, address) != self.data
            or ggml("nbytes", ctypes.c_size_t, address) != extent
        ):
            raise SystemExit(f"llama-cpp-python {llama_cpp.__version__} has another ggml_tensor: adapt Tensor")

    def rows(self):
        """The values of an f32 matrix."""
        width, count = self.ne[0], math.prod(self.ne[1:])
        if self.type != llama_cpp.GGML_TYPE_F32 or self.nb[1] != 4 * width or self.nb[2] != 4 * width * self.ne[1]:
            raise SystemExit("llama.cpp multiplies with inputs that are no plain f32 matrix")
        values = (ctypes.c_float * (width * count)).from_address(self.data)
        return np.frombuffer(values, np.float32).reshape(count, width)


class Model:
    """A GGUF in llama.cpp, with one sequence."""

    def __init__(self, path, context, options, log, exact=False, watch=None):
        settings = llama_cpp.llama_model_default_params()
        settings.use_extra_bufts = not options.no_repack
        self.model = llama_cpp.llama_model_load_from_file(os.fsencode(path), settings)
        if not self.model:
            sys.exit(f"{path} cannot be loaded: {log.complaint()}")
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = context
        settings.n_batch = max(context, BATCH)
        settings.n_ubatch = BATCH
        settings.n_threads = settings.n_threads_batch = options.threads
        if exact:
            settings.type_k = settings.type_v = llama_cpp.GGML_TYPE_F32
            settings.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        if watch:
            settings.cb_eval = self.callback = llama_cpp.ggml_backend_sched_eval_callback(watch)
        self.context = llama_cpp.llama_init_from_model(self.model, settings)
        if not self.context:
            sys.exit(f"{path} cannot run: {log.complaint()}")
        self.batch = llama_cpp.llama_batch_init(context, 0, 1)
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def describe(self):
        text = ctypes.create_string_buffer(128)
        llama_cpp.llama_model_desc(self.model, text, len(text))
        return text.value.decode()

    def clear(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def logits(self, tokens):
        """Logits after each token of a window, valid until the next call."""
        self.clear()
        self.batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            self.batch.token[i] = token
            self.batch.pos[i] = i
            self.batch.n_seq_id[i] = 1
            self.batch.seq_id[i][0] = 0
            self.batch.logits[i] = True
        self.decode(self.batch)
        logits = llama_cpp.llama_get_logits(self.context)
        return np.ctypeslib.as_array(logits, (len(tokens), self.vocab))

    def feed(self, tokens):
        """Goes on with these tokens in one batch, and computes the logits after the last one."""
        tokens = (llama_cpp.llama_token * len(tokens))(*tokens)
        self.decode(llama_cpp.llama_batch_get_one(tokens, len(tokens)))

    def decode(self, batch):
        result = llama_cpp.llama_decode(self.context, batch)
        if result:
            sys.exit(f"llama_decode failed with {result}")
        llama_cpp.llama_synchronize(self.context)

    def free(self):
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)


class Importance:
    """Sums of squares of the inputs of each linear, by the name of its weight."""

    def __init__(self):
        self.sums, self.counts = {}, collections.Counter()
        self.problem = None

    def watch(self, address, ask, _user_data):
        """llama.cpp asks about each tensor whether it is to be seen, and shows those that are once computed."""
        try:
            return self.see(address, ask)
        except (Exception, SystemExit) as problem:  # nothing can be raised through llama.cpp
            self.problem = problem
            return not ask

    def see(self, address, ask):
        if ggml("op_desc", ctypes.c_char_p, address) != b"MUL_MAT":
            return not ask
        product = Tensor.from_address(address)
        weight, inputs = (Tensor.from_address(source) for source in product.src[:2])
        if not self.sums:
            for tensor in (product, weight):
                tensor.check()
        if not weight.name.endswith(b".weight"):
            return not ask
        if not ask:
            name, rows = weight.name.decode(), inputs.rows().astype(np.float64)
            self.sums[name] = self.sums.get(name, 0) + np.square(rows).sum(0)
            self.counts[name] += len(rows)
        return True

    def means(self):
        return {name: (total / self.counts[name]).astype(np.float32) for name, total in self.sums.items()}


def importance_matrix(source, windows, options, log):
    importance = Importance()
    model = Model(source, windows.context, options, log, exact=True, watch=importance.watch)
    for window in windows:
        model.logits(window)
        if importance.problem:
            raise importance.problem
    model.free()
    return importance.means()


def quantize(source, target, ftype, importance, options, log):
    """Lets llama.cpp quantize; what it said lies beside the file. Returns why it refused, if it did."""
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = ftype
    settings.allow_requantize = ftype == llama_cpp.LLAMA_FTYPE_ALL_F32
    settings.nthread = options.threads
    entries = (llama_cpp.llama_model_imatrix_data * (len(importance) + 1))()
    for entry, (name, values) in zip(entries, importance.items()):
        entry.name, entry.size = name.encode(), values.size
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    if importance:
        settings.imatrix = entries
    log.take()
    partial = target.with_suffix(".partial")
    failed = llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(partial), ctypes.byref(settings))
    if failed:
        partial.unlink(missing_ok=True)
        return log.complaint()
    target.with_suffix(".log").write_text(log.take())
    partial.rename(target)
    return None


class Quantized:
    """A quantized GGUF: how long it is, and which types llama.cpp really used."""

    def __init__(self, kind, path):
        self.kind, self.path = kind, path
        self.file_bytes = path.stat().st_size
        self.tensor_bytes = 0
        self.types = collections.Counter()
        for tensor in gguf.GGUFReader(path).tensors:
            self.tensor_bytes += tensor.n_bytes
            if sum(size > 1 for size in tensor.shape) > 1:
                self.types[tensor.tensor_type.name] += 1
        said = path.with_suffix(".log").read_text()
        fallback = r"required for type +(\S+)\).*-> falling back to +(\S+)"
        self.fallbacks = collections.Counter(f"{a} → {b}".upper() for a, b in re.findall(fallback, said))

    def record(self, parameters):
        return {
            "model": self.kind,
            "file": self.path.name,
            "file_bytes": self.file_bytes,
            "tensor_bytes": self.tensor_bytes,
            "bits_per_parameter": 8 * self.file_bytes / parameters,
            "tensor_bits_per_parameter": 8 * self.tensor_bytes / parameters,
            "types": dict(self.types.most_common()),
            "fallbacks": dict(self.fallbacks.most_common()),
        }


class Work:
    """The folder of files that are used again."""

    def __init__(self, options, log, kind):
        """`kind` is the type that the checkpoint is written in, F32 or F16."""
        self.options, self.log, self.kind = options, log, kind
        self.checkpoint = Checkpoint(options.checkpoint)
        self.folder = pathlib.Path(options.work)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.stem = f"{self.checkpoint.folder.resolve().name}-{self.checkpoint.digest(llama_cpp.__version__)}"

    def source(self):
        path = self.folder / f"{self.stem}-{self.kind}.gguf"
        if not path.exists():
            say(f"writing {path}")
            write_gguf(self.checkpoint, path, self.kind)
        return path

    def importance(self, windows):
        path = self.folder / f"{self.stem}-importance-{windows.digest()}.npz"
        if not path.exists():
            say(f"reading {len(windows.ids)} tokens for the importance matrix")
            means = importance_matrix(self.source(), windows, self.options, self.log)
            missing = set(self.linears()) - set(means)
            if missing:
                sys.exit(f"llama.cpp did not multiply by {', '.join(sorted(missing))}")
            partial = path.with_suffix(".partial.npz")
            np.savez(partial, **means)
            partial.rename(path)
        return dict(np.load(path))

    def linears(self):
        """Input widths of all linears, the output head (which may be the embedding) among them."""
        tensors = self.checkpoint.tensors
        embedding = set() if "lm_head.weight" not in tensors else {"model.embed_tokens.weight"}
        matrices = (name for name, (_, entry, _) in tensors.items() if len(entry["shape"]) == 2)
        return {gguf_name(name): tensors[name][1]["shape"][1] for name in matrices if name not in embedding}

    def ones(self):
        return {name: np.ones(width, np.float32) for name, width in self.linears().items()}

    def quantized(self, kinds, importance, label):
        """Quantizes to each type; says which ones llama.cpp refuses and leaves them out."""
        for kind in kinds:
            path = self.folder / f"{self.stem}-{kind}-{label(kind)}.gguf"
            if not path.exists():
                say(f"quantizing to {kind}")
                ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
                refusal = quantize(self.source(), path, ftype, importance(kind), self.options, self.log)
                if refusal:
                    say(f"{kind} is left out: {refusal}")
                    continue
            yield Quantized(kind, path)

    def dequantized(self, path):
        """The values of a quantized GGUF in F32."""
        target = path.with_name(f"{path.stem}-F32.gguf")
        if not target.exists():
            refusal = quantize(path, target, llama_cpp.LLAMA_FTYPE_ALL_F32, {}, self.options, self.log)
            if refusal:
                sys.exit(f"{path} cannot be dequantized: {refusal}")
        return target


# Quality


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits -= logits.max(1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(1, keepdims=True))
    return logits


class Losses:
    """Sums over the positions of all windows."""

    def __init__(self):
        self.tokens = self.nll = self.kl = self.agree = 0

    def add(self, original, logits, targets):
        """`original` is the log-softmax of the original's logits at the same positions."""
        own = log_softmax(logits)
        self.tokens += len(targets)
        self.nll -= own[np.arange(len(targets)), targets].sum()
        self.kl += (np.exp(original) * (original - own)).sum()
        self.agree += (original.argmax(1) == own.argmax(1)).sum()

    def record(self):
        return {
            "tokens": self.tokens,
            "nll_per_token": float(self.nll / self.tokens),
            "perplexity": math.exp(self.nll / self.tokens),
            "kl_mean": float(self.kl / self.tokens),
            "top1_agreement": float(self.agree / self.tokens),
        }


def measure(work, quantized, windows):
    """Losses of the original, and of each quantized model against it."""
    options, log = work.options, work.log
    original = Model(work.source(), windows.context, options, log, exact=True)
    if options.activations == "f32":
        paths = [work.dequantized(one.path) for one in quantized]
    else:
        paths = [one.path for one in quantized]
    models = [Model(path, windows.context, options, log, exact=options.activations == "f32") for path in paths]
    losses = [Losses() for _ in range(1 + len(models))]
    for window in windows:
        logits = [model.logits(window) for model in (original, *models)]
        for start in range(0, len(window) - 1, 256):
            end = min(start + 256, len(window) - 1)
            targets = np.array(window[start + 1 : end + 1])
            truth = log_softmax(logits[0][start:end])
            for loss, own in zip(losses, logits):
                loss.add(truth, own[start:end], targets)
    for model in (original, *models):
        model.free()
    return [loss.record() for loss in losses]


def lagar(options, command, model, *arguments):
    """What a command of lagar says in JSON of FILE or FILE@TIER."""
    file, _, tier = str(model).partition("@")
    line = [options.lagar_binary, command, file, *map(str, arguments), "--threads", str(options.threads)]
    line += ["--json", "--quiet"] + (["--tier", tier] if tier else [])
    try:
        result = subprocess.run(line, stdout=subprocess.PIPE, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"{' '.join(line)}: {error}")
    return json.loads(result.stdout)


def quality(options):
    work = Work(options, Log(), "F32")
    checkpoint = work.checkpoint
    context = options.context or checkpoint.context()
    text = Windows(checkpoint, options.text, options.tokens, context)
    if options.no_importance:
        importance, label = {}, "plain"
    else:
        calibration = Windows(checkpoint, options.calibration, options.calibration_tokens, context)
        importance, label = work.importance(calibration), calibration.digest()
    quantized = list(work.quantized(options.types, lambda _: importance, lambda _: label))
    say(f"measuring {len(quantized)} models on {len(text.ids)} tokens")
    original, *losses = measure(work, quantized, text)
    models = [one.record(checkpoint.parameters) | loss for one, loss in zip(quantized, losses)]

    cut = ["--text", options.text, "--context", context, *(["--tokens", options.tokens] if options.tokens else [])]
    own = lagar(options, "eval", options.checkpoint, *cut)
    for file in options.lagar:
        say(f"measuring {file}")
        against = ["--reference", options.checkpoint, "--activations", options.activations]
        result = lagar(options, "eval", file, *against, *cut)
        models.append({"model": pathlib.Path(file).name, "file": file} | result)
    models.sort(key=lambda model: model["bits_per_parameter"])
    report = {
        "machine": machine(),
        "checkpoint": checkpoint.folder.name,
        "parameters": checkpoint.parameters,
        "context": context,
        "importance": not options.no_importance,
        "activations": options.activations,
        "original": {"llama_cpp": original, "lagar": own},
        "models": models,
    }
    print_quality(report, checkpoint)
    write_json(options.json, report)


def print_quality(report, checkpoint):
    llama, own = report["original"]["llama_cpp"], report["original"]["lagar"]
    apart = llama["nll_per_token"] - own["nll_per_token"]
    print(f"{report['checkpoint']}, {report['parameters']:,} parameters; {report['machine']}\n")
    print(
        f"The original: {llama['nll_per_token']:.5f} nats per token (perplexity {llama['perplexity']:.4f}) in "
        f"llama.cpp, {own['nll_per_token']:.5f} ({own['perplexity']:.4f}) in lagar, {apart:+.1e} apart; "
        f"{llama['tokens']} tokens scored in windows of {report['context']}; "
        f"{report['activations']} activations, {'an' if report['importance'] else 'no'} importance matrix.\n"
    )
    if abs(apart) > 1e-3 or llama["tokens"] != own["tokens"]:
        print(f"**The two do not measure the same** (lagar scored {own['tokens']} tokens).\n")
    head = ["model", "bits/parameter, file", "tensors only", "KL, nats", "perplexity", "same top token"]
    rows = []
    for model in report["models"]:
        tensors = model.get("tensor_bits_per_parameter")
        rows.append([
            model["model"],
            f"{model['bits_per_parameter']:.3f}",
            "–" if tensors is None else f"{tensors:.3f}",
            f"{model['kl_mean']:.5f}",
            f"{model['perplexity']:.3f}",
            f"{100 * model['top1_agreement']:.2f} %",
            listed(model.get("types")),
            listed(model.get("fallbacks")),
        ])
    print_table(head + ["types of matrices", "fell back"], rows)
    tokenizer = (checkpoint.folder / "tokenizer.json").stat().st_size
    print(
        "\nFiles of lagar hold tokenizer and settings. These GGUFs hold no vocabulary, which flatters them: as it "
        f"stands in the checkpoint, tokenizer.json would be {8 * tokenizer / report['parameters']:.3f} bits per parameter."
    )


def listed(counts):
    return ", ".join(f"{count} × {name}" for name, count in (counts or {}).items()) or "–"


# Speed


def time_llama(quantized, options, log, tokens):
    """Tokens per second of one turn: of decoding, and of prefill by length."""
    model = Model(quantized.path, most_tokens(options), options, log)
    model.feed(tokens[: min(BATCH, max(options.prompt))])
    speeds = {}
    for before in options.context:
        model.clear()
        read(model, tokens[: max(before, 1)])
        start = time.perf_counter()
        for token in tokens[before : before + options.generate]:
            model.feed([token])
        speeds[decode_after(before)] = options.generate / (time.perf_counter() - start)
    for length in options.prompt:
        model.clear()
        start = time.perf_counter()
        read(model, tokens[:length])
        speeds[f"prefill {length}"] = length / (time.perf_counter() - start)
    description = model.describe()
    model.free()
    return speeds, description


def read(model, tokens):
    for first in range(0, len(tokens), BATCH):
        model.feed(tokens[first : first + BATCH])


def decode_after(context):
    return f"decode after {context}" if context else "decode"


def most_tokens(options):
    """That a model holds at once."""
    return max(options.prompt + [context + options.generate + 1 for context in options.context] + [BATCH])


def time_lagar(file, options):
    sweep = {"--prompt": options.prompt, "--context": options.context, "--generate": [options.generate]}
    sweep = [word for name, counts in sweep.items() for word in (name, ",".join(map(str, counts)))]
    result = lagar(options, "bench", file, *sweep)
    speeds = {}
    for run in result["runs"]:
        if (run.get("batch") or 1) != 1:
            continue
        if run["kind"] == "decode":
            speeds[decode_after(run["prompt"])] = run["tokens_per_second"]
        elif run["kind"] == "prefill" and run["prompt"] in options.prompt:
            speeds[f"prefill {run['prompt']}"] = run["tokens_per_second"]
    if len(speeds) < len(options.context) + len(options.prompt):
        sys.exit(f"lagar bench {file} measured only {', '.join(speeds) or 'nothing'}")
    return speeds, result


def speed(options):
    load = os.getloadavg()[0]
    if load > 0.5:
        say(f"warning: the machine is not idle (load {load:.1f}), so these speeds will say little")
    log = Log()
    # The values make no difference to the time, and 7 G parameters in F32 are 27 GB.
    work = Work(options, log, "F16")
    needs = lambda kind: kind in NEEDS_IMPORTANCE
    importance = lambda kind: work.ones() if needs(kind) else {}
    label = lambda kind: "ones" if needs(kind) else "plain"
    quantized = list(work.quantized(options.types, importance, label))
    count = most_tokens(options)
    tokens = np.random.default_rng(0).integers(0, work.checkpoint.config["vocab_size"], count).tolist()
    entrants = quantized + options.lagar
    samples = {entrant: collections.defaultdict(list) for entrant in entrants}
    about = {}
    report = lambda rounds: speed_report(work.checkpoint, entrants, samples, about, rounds, options)
    for turn in range(options.rounds):
        say(f"round {turn + 1} of {options.rounds}")
        for entrant in entrants if turn % 2 == 0 else entrants[::-1]:
            if isinstance(entrant, Quantized):
                speeds, about[entrant] = time_llama(entrant, options, log, tokens)
            else:
                speeds, about[entrant] = time_lagar(entrant, options)
            for name, value in speeds.items():
                samples[entrant][name].append(value)
        # After each round, so that a run which is cut off leaves what it has measured.
        write_json(options.json, report(turn + 1) | {"load_average_before": load})
    print_speed(report(options.rounds))
    write_json(options.llama_bench, llama_bench(work.checkpoint, quantized, samples, about, options))


def speed_report(checkpoint, entrants, samples, about, rounds, options):
    models = []
    for entrant in entrants:
        speeds = {
            name: {"median": statistics.median(values), "samples": values} for name, values in samples[entrant].items()
        }
        if isinstance(entrant, Quantized):
            model = entrant.record(checkpoint.parameters) | {"engine": "llama.cpp"}
        else:
            model = {"model": pathlib.Path(entrant).name, "file": entrant, "engine": "lagar", "bench": about[entrant]}
        models.append(model | {"tokens_per_second": speeds})
    return {
        "machine": machine(),
        "checkpoint": checkpoint.folder.name,
        "parameters": checkpoint.parameters,
        "threads": options.threads,
        "generate": options.generate,
        "rounds": rounds,
        "models": models,
    }


def print_speed(report):
    names = list(report["models"][0]["tokens_per_second"]) if report["models"] else []
    print(
        f"{report['checkpoint']}, {report['parameters']:,} parameters; {report['machine']}; "
        f"{report['threads']} threads. Tokens per second, median of {report['rounds']} rounds (lowest–highest); "
        f"decode is {report['generate']} tokens.\n"
    )
    rows = []
    for model in report["models"]:
        size = f"{model['tensor_bytes'] / 1e6:.1f}" if "tensor_bytes" in model else "–"
        rows.append([model["model"], size, *(spread(model["tokens_per_second"].get(name)) for name in names)])
    print_table(["model", "MB of tensors", *names], rows)
    llama = [model for model in report["models"] if model["engine"] == "llama.cpp"]
    for own in (model for model in report["models"] if model["engine"] == "lagar"):
        print(f"\n{own['model']} is so many times as fast as\n")
        rows = [[other["model"], *(ratio(own, other, name) for name in names)] for other in llama]
        print_table(["", *names], rows)


def spread(speed):
    if speed is None:
        return "–"
    samples = speed["samples"]
    return f"{speed['median']:.1f} ({min(samples):.1f}–{max(samples):.1f})"


def ratio(own, other, name):
    ours, theirs = (model["tokens_per_second"].get(name) for model in (own, other))
    return "–" if ours is None or theirs is None else f"{ours['median'] / theirs['median']:.2f}"


def llama_bench(checkpoint, quantized, samples, about, options):
    """The same results as llama-bench writes them with -o json."""
    tests = []
    for one in quantized:
        for name, values in samples[one].items():
            what, *rest = name.split()
            number = int(rest[-1]) if rest else 0
            prompt, generate, depth = (0, options.generate, number) if what == "decode" else (number, 0, 0)
            nanoseconds = [1e9 * (prompt + generate) / value for value in values]
            tests.append({
                "build_commit": f"llama-cpp-python {llama_cpp.__version__}",
                "cpu_info": processor(),
                "backends": "CPU",
                "model_filename": str(one.path),
                "model_type": about[one],
                "model_size": one.tensor_bytes,
                "model_n_params": checkpoint.parameters,
                "n_batch": BATCH,
                "n_ubatch": BATCH,
                "n_threads": options.threads,
                "type_k": "f16",
                "type_v": "f16",
                "n_prompt": prompt,
                "n_gen": generate,
                "n_depth": depth,
                "avg_ns": round(statistics.mean(nanoseconds)),
                "stddev_ns": round(deviation(nanoseconds)),
                "avg_ts": statistics.mean(values),
                "stddev_ts": deviation(values),
                "samples_ns": [round(value) for value in nanoseconds],
                "samples_ts": values,
            })
    return tests


def deviation(values):
    return statistics.stdev(values) if len(values) > 1 else 0.0


# Output and options


def processor():
    path = pathlib.Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", path.read_text()) if path.is_file() else []
    return names[0] if names else "unknown processor"


def machine():
    features = llama_cpp.llama_print_system_info().decode().strip(" |\n")
    return f"{processor()}, {os.cpu_count()} processors, llama-cpp-python {llama_cpp.__version__} ({features})"


def print_table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def write_json(path, value):
    if path:
        pathlib.Path(path).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def types(text):
    """Names of types that both llama.cpp and the package gguf know."""
    kinds = text.upper().split(",")
    known = {name.removeprefix("LLAMA_FTYPE_MOSTLY_") for name in dir(llama_cpp) if "_FTYPE_MOSTLY_" in name}
    known &= {member.name.removeprefix("MOSTLY_") for member in gguf.LlamaFileType}
    for kind in kinds:
        if kind not in known:
            raise argparse.ArgumentTypeError(f"no type {kind}; there are {', '.join(sorted(known))}")
    return kinds


def lengths(text):
    return [int(length) for length in text.split(",")]


def parse():
    lines = __doc__.split("\n\n", 1)
    both = argparse.ArgumentParser(add_help=False)
    both.add_argument("checkpoint", metavar="CHECKPOINT", help="a Hugging Face folder of a Llama model")
    both.add_argument("--lagar", nargs="+", default=[], metavar="FILE", help="pressed files (FILE or FILE@TIER)")
    both.add_argument("--lagar-binary", default="target/release/lagar", metavar="PATH")
    both.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N")
    both.add_argument("--no-repack", action="store_true", help="without llama.cpp's repacked weights and AMX")
    both.add_argument("--work", default="target/llama-cpp-work", metavar="DIR", help="where GGUFs lie")
    both.add_argument("--json", metavar="OUT", help="also write the results as JSON")
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=lines[0], epilog=lines[1], formatter_class=style)
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("quality", parents=[both], help="what is lost")
    command.add_argument("--text", required=True, metavar="VAL", help="the text to measure on")
    command.add_argument("--calibration", metavar="CAL", help="the text for the importance matrix")
    command.add_argument("--no-importance", action="store_true", help="quantize without an importance matrix")
    command.add_argument("--types", type=types, default=QUALITY_TYPES, metavar="A,B")
    command.add_argument("--tokens", type=int, metavar="N", help="only the first N tokens of the text")
    command.add_argument("--context", type=int, metavar="N", help="tokens in a window [the model's, at most 2048]")
    command.add_argument("--activations", choices=["int8", "f32"], default="int8", help="what inputs are rounded to")
    command.add_argument("--calibration-tokens", type=int, default=131072, metavar="N")
    command.set_defaults(run=quality)

    command = commands.add_parser("speed", parents=[both], help="decode and prefill")
    command.add_argument("--types", type=types, default=SPEED_TYPES, metavar="A,B")
    command.add_argument("--prompt", type=lengths, default="128,512", metavar="N,…", help="lengths of prefill")
    command.add_argument("--context", type=lengths, default="0", metavar="N,…", help="tokens before those that are decoded")
    command.add_argument("--generate", type=int, default=64, metavar="N", help="tokens to decode")
    command.add_argument("--rounds", type=int, default=5, metavar="N")
    command.add_argument("--llama-bench", metavar="OUT", help="also write llama-bench's form of JSON")
    command.set_defaults(run=speed)

    options = parser.parse_args()
    if options.run is quality and not options.no_importance and not options.calibration:
        parser.error("--calibration is needed, or --no-importance")
    return options


if __name__ == "__main__":
    options = parse()
    options.run(options)
