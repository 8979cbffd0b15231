"""bertline: from a Wikipedia dump and a shelf of books to a pretrained, evaluated and exported BERT.

    import bertline

    tokenizer = bertline.Tokenizer.load("vocab.txt")     # or of a model of any format
    model = bertline.load_model("uncased_L-12_H-768_A-12.zip")
    records = bertline.read_records("out/latest/prepare_128")
    result = bertline.run("tiny", out="out")

Each name is loaded when it is first used; this import alone loads nothing.
"""

TYPE_CHECKING = False  # typing's, without loading it
if TYPE_CHECKING:
    from bertline.model.formats.tokenizer import Tokenizer as Tokenizer
    from bertline.model.inference import load_model as load_model
    from bertline.model.records.sequence import read_records as read_records
    from bertline.pipelines.from_python import run as run

    __version__: str

# Where the names are defined.
_HOMES = {
    "Tokenizer": "bertline.model.formats.tokenizer",
    "load_model": "bertline.model.inference",
    "read_records": "bertline.model.records.sequence",
    "run": "bertline.pipelines.from_python",
}
__all__ = ["Tokenizer", "__version__", "load_model", "read_records", "run"]


if not TYPE_CHECKING:  # to a type checker every name would be there

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version

            value: object = version("bertline")
        elif name in _HOMES:
            from importlib import import_module

            value = getattr(import_module(_HOMES[name]), name)
        else:
            raise AttributeError(f"module 'bertline' has no attribute '{name}'; it has {', '.join(__all__)}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
