"""Our model -> a SavedModel with the interface of TF Hub's BERT encoders, and one that prepares text for it."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bertline.model.formats.files import write_json
from bertline.model.formats.loaded_model import ANSWER_SPANS, CLASSIFIER, MASKED_LM, NEXT_SENTENCE, POOLER, find_heads
from bertline.model.formats.savedmodel.repeatable_bytes import save_repeatably
from bertline.model.training.checkpoint import BERT_CONFIG_FILE, TOKENIZER_FILE, VOCABULARY_FILE, Checkpoint

EXTRA_FOLDER = "assets.extra"  # TensorFlow's place for files that the graph does not read
STATE_FILE = "model_state.json"  # what else Checkpoint.state says of the model
NOT_KEPT = ("step", "stage", "pending", "schedule")  # keys of Checkpoint.state that are of use to training alone
PREPROCESSING_FOLDER = "preprocessing"
INPUTS = ("input_word_ids", "input_mask", "input_type_ids")
POSITIONS = "masked_lm_positions"

Outputs = dict[str, Any]
Call = Callable[..., Outputs]


def write_savedmodel(folder: Path, checkpoint: Checkpoint) -> dict[str, int | float]:
    """Write a SavedModel into an existing folder; returns counts.

    `model = tf.saved_model.load(folder)` needs neither this package nor Keras. `model(inputs)` takes a dict of
    input_word_ids, input_mask and input_type_ids, int32 [batch, length], and gives pooled_output [batch, hidden],
    sequence_output [batch, length, hidden], encoder_outputs (a list of the layers' outputs) and default, which is
    pooled_output; `model(inputs, training=True)` applies dropout. `model.mlm(inputs)` takes masked_lm_positions
    [batch, predictions], too, and adds mlm_logits [batch, predictions, vocabulary]. A model without a pooler has
    no pooled_output; its default is sequence_output. Signatures: serving_default, and classify, answer_spans,
    next_sentence and mlm for the heads that there are. preprocessing/ holds a second SavedModel, which turns
    sentences into these inputs.

    Keras 3 takes it as `keras.layers.TFSMLayer(folder, call_endpoint="__call__")`. The weights are those of the
    checkpoint, bit for bit; the same TensorFlow and Keras write the same bytes for the same model. Adam's slots have
    no place in this format: they are left out, and counted. Raises ValueError for another Keras backend than
    TensorFlow.
    """
    from bertline.model.formats.savedmodel.preprocessing import write_preprocessing

    heads = find_heads(checkpoint.weights, checkpoint.bert_config, folder)
    _require_tensorflow()
    _save(folder, checkpoint, heads)
    _write_extra_files(folder / EXTRA_FOLDER, checkpoint)
    (folder / PREPROCESSING_FOLDER).mkdir()
    write_preprocessing(folder / PREPROCESSING_FOLDER, checkpoint)
    counts: dict[str, int | float] = {
        "variables": len(checkpoint.weights),
        "parameters": sum(array.size for array in checkpoint.weights.values()),
    }
    return counts | ({"slots_left_out": len(checkpoint.slots)} if checkpoint.slots else {})


def _require_tensorflow() -> None:
    import keras

    if keras.config.backend() != "tensorflow":
        raise ValueError(
            f"a SavedModel is written with Keras' TensorFlow backend, not with {keras.config.backend()}; "
            "set KERAS_BACKEND=tensorflow"
        )


def _save(folder: Path, checkpoint: Checkpoint, heads: Sequence[str]) -> None:
    import tensorflow as tf

    variables = {name: tf.Variable(array, name=name) for name, array in checkpoint.weights.items()}
    model = _Model(checkpoint, variables, POOLER in heads)
    root = tf.train.Checkpoint()  # an object that holds what it is given
    _fill(root, model.encoder, INPUTS, _select(variables, "bert/"))
    if MASKED_LM in heads:
        root.mlm = tf.train.Checkpoint()
        _fill(root.mlm, model.mlm, (*INPUTS, POSITIONS), _select(variables, "bert/", "cls/predictions/"))
    # Kept apart: whoever fine-tunes the encoder does not want to train the heads of another task.
    root.head_variables = [variable for name, variable in variables.items() if not name.startswith("bert/")]
    root.do_lower_case = tf.Variable(checkpoint.do_lower_case, trainable=False, name="do_lower_case")
    with tempfile.TemporaryDirectory() as scratch:
        vocabulary = Path(scratch) / VOCABULARY_FILE
        vocabulary.write_bytes(checkpoint.vocabulary)
        root.vocab_file = tf.saved_model.Asset(str(vocabulary))
        save_repeatably(root, folder, _make_signatures(model, heads))


class _Model:
    """What the SavedModel computes, in the names of TF Hub."""

    def __init__(self, checkpoint: Checkpoint, variables: Mapping[str, Any], has_pooler: bool) -> None:
        self._config = checkpoint.bert_config
        self._variables = variables
        self._has_pooler = has_pooler

    def encoder(self, inputs: Mapping[str, Any], training: bool = False) -> Outputs:
        from bertline.model.bert import encode

        dropout: Any = _dropout if training else None
        ids, mask, segments = (inputs[name] for name in INPUTS)
        encoded = encode(self._variables, self._config, ids, mask, segments, dropout)
        outputs = {"sequence_output": encoded.sequence, "encoder_outputs": list(encoded.layers)}
        if not self._has_pooler:
            return {**outputs, "default": encoded.sequence}
        return {**outputs, "pooled_output": encoded.pooled, "default": encoded.pooled}

    def mlm(self, inputs: Mapping[str, Any], training: bool = False) -> Outputs:
        from bertline.model.heads import masked_lm_logits

        outputs = self.encoder(inputs, training)
        del outputs["default"]  # as in TF Hub's
        logits = masked_lm_logits(self._variables, self._config, outputs["sequence_output"], inputs[POSITIONS])
        return {**outputs, "mlm_logits": logits}

    def serving_default(self, inputs: Mapping[str, Any]) -> Outputs:
        outputs = self.encoder(inputs)
        del outputs["encoder_outputs"]  # a signature's outputs are tensors, and a server sends all of them
        return outputs

    def classify(self, inputs: Mapping[str, Any]) -> Outputs:
        from bertline.model.heads import classifier_logits

        return _score(classifier_logits(self._variables, self.encoder(inputs)["pooled_output"]))

    def next_sentence(self, inputs: Mapping[str, Any]) -> Outputs:
        from bertline.model.heads import next_sentence_logits

        return _score(next_sentence_logits(self._variables, self.encoder(inputs)["pooled_output"]))

    def answer_spans(self, inputs: Mapping[str, Any]) -> Outputs:
        from bertline.model.heads import span_logits

        logits = span_logits(self._variables, self.encoder(inputs)["sequence_output"])
        return {"start_logits": logits[:, :, 0], "end_logits": logits[:, :, 1]}

    def mlm_scores(self, inputs: Mapping[str, Any]) -> Outputs:
        return {"mlm_logits": self.mlm(inputs)["mlm_logits"]}


def _score(logits: Any) -> Outputs:
    import tensorflow as tf

    return {"logits": logits, "probabilities": tf.nn.softmax(logits)}


def _dropout(x: Any, rate: float, place: int) -> Any:
    """Ordinary random dropout: ours needs the number of the step, which other training programs do not give."""
    import tensorflow as tf

    return tf.nn.dropout(x, rate) if rate > 0 else x


def _select(variables: Mapping[str, Any], *prefixes: str) -> list[Any]:
    return [variable for name, variable in variables.items() if name.startswith(prefixes)]


def _make_specs(names: Sequence[str]) -> dict[str, Any]:
    import tensorflow as tf

    return {name: tf.TensorSpec([None, None], tf.int32, name) for name in names}  # [batch, length or predictions]


def _fill(target: Any, compute: Call, inputs: Sequence[str], variables: list[Any]) -> None:
    """Make `target` callable, with the attributes that fine-tuning programs such as hub.KerasLayer look for."""
    import tensorflow as tf

    call = tf.function(compute, autograph=False)
    for training in (False, True):
        call.get_concrete_function(_make_specs(inputs), training=training)
    target.__call__ = call
    target.variables = variables
    target.trainable_variables = variables
    target.regularization_losses = []


def _make_signatures(model: _Model, heads: Sequence[str]) -> dict[str, Any]:
    computed: dict[str, tuple[Call, Sequence[str]]] = {"serving_default": (model.serving_default, INPUTS)}
    if MASKED_LM in heads:
        computed["mlm"] = (model.mlm_scores, (*INPUTS, POSITIONS))
    if NEXT_SENTENCE in heads and POOLER in heads:
        computed["next_sentence"] = (model.next_sentence, INPUTS)
    if CLASSIFIER in heads and POOLER in heads:
        computed["classify"] = (model.classify, INPUTS)
    if ANSWER_SPANS in heads:
        computed["answer_spans"] = (model.answer_spans, INPUTS)
    return {name: _make_signature(compute, inputs) for name, (compute, inputs) in computed.items()}


def _make_signature(compute: Call, names: Sequence[str]) -> Any:
    import tensorflow as tf

    def call(**inputs: Any) -> Outputs:
        return compute(inputs)

    return tf.function(call, autograph=False).get_concrete_function(**_make_specs(names))


def _write_extra_files(folder: Path, checkpoint: Checkpoint) -> None:
    """What the graph does not say, for whoever reads the model back."""
    folder.mkdir()
    config = {**checkpoint.config_extras, **checkpoint.bert_config.to_mapping()}
    write_json(folder / BERT_CONFIG_FILE, config)
    write_json(folder / TOKENIZER_FILE, {"do_lower_case": checkpoint.do_lower_case})
    write_json(folder / STATE_FILE, {key: value for key, value in checkpoint.state.items() if key not in NOT_KEPT})
