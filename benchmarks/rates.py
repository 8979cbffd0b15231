"""Every rate, size and price that costs.py computes with: what it is, where it is from, when it was read."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A number and where it is from."""

    value: float
    unit: str
    source: str


CATALOG = "Google's billing prices in SkyPilot's catalog, v9 @ 2c3d7ea; read 2026-12-01"
STORAGE_PAGE = "cloud.google.com/storage/pricing of 2026-09-20, as quoted by api-evangelist/gcp-cloud-storage"
RATE_PAGE = "docs.cloud.google.com/storage/docs/request-rate; read 2026-12-01"
MEMORY = "from memory, check"
ASSUMED = "assumed"
RESULTS = "RESULTS.md, Steps on one core"

MEASURED = {
    "ingest of a dump": Figure(0.607, "MB of bz2 a core second", RESULTS),
    "ingest of a dump, its one reader": Figure(2.0, "MB of bz2 a second", RESULTS),
    "ingest of JSON lines, one core": Figure(9.1, "MB a second", RESULTS),
    "split": Figure(10.2, "MB of text a core second", RESULTS),
    "vocabulary, one core": Figure(6.3, "MB of text a second", f"{RESULTS}: few new words; with many half"),
    "prepare 128, budget": Figure(16.1, "MB of text a core second", RESULTS),
    "prepare 512, budget": Figure(11.3, "MB of text a core second", RESULTS),
    "prepare 128, paper": Figure(4.3, "MB of text a core second", f"{RESULTS}: half of that at 5 passes, for 10"),
    "prepare 512, paper": Figure(16.7, "MB of text a core second", RESULTS),
    "documents": Figure(0.40, "bytes a byte of text", RESULTS),
    "records 128, budget": Figure(0.79, "bytes a byte of text", RESULTS),
    "records 512, budget": Figure(0.71, "bytes a byte of text", RESULTS),
    "records 128, paper": Figure(9.7, "bytes a byte of text", f"{RESULTS}: twice that of 5 passes, for 10"),
    "records 512, paper": Figure(1.05, "bytes a byte of text", RESULTS),
    "memory of a process that prepares": Figure(0.41, "GB", RESULTS),
    "writes a shard, made": Figure(3, "objects", "RESULTS.md, A run whose store is a bucket"),
    "reads a shard, fetched": Figure(1, "objects", "RESULTS.md, A run whose store is a bucket"),
    "requests of a run beside its shards": Figure(350, "requests", "RESULTS.md, A run whose store is a bucket"),
}
RATES = {
    "A100, BERT-Large at 128": Figure(
        485.6, "sequences/s", "NVIDIA DeepLearningExamples, TensorFlow2 BERT, one A100 80GB, mixed precision"
    ),
    "A100, BERT-Large at 512": Figure(96.5, "sequences/s", "the same table"),
    "peak of gpu-l4": Figure(121, "TFLOP/s", f"bfloat16 without sparsity; {MEMORY}"),
    "peak of gpu-a100": Figure(312, "TFLOP/s", f"bfloat16 without sparsity; {MEMORY}"),
    "peak of gpu-h100": Figure(989, "TFLOP/s", f"bfloat16 without sparsity; {MEMORY}"),
    "peak of tpu-v5e": Figure(197, "TFLOP/s", "cloud.google.com/tpu/docs/v5e; read 2026-12-01"),
    "peak of tpu-v6e": Figure(918, "TFLOP/s", "docs.cloud.google.com/tpu/docs/v6e; read 2026-12-01"),
    "tiny, share of Large's use of the peak": Figure(0.1, "", ASSUMED),
    "mini, share of Large's use of the peak": Figure(0.2, "", ASSUMED),
    "small, share of Large's use of the peak": Figure(0.5, "", ASSUMED),
    "medium, share of Large's use of the peak": Figure(0.6, "", ASSUMED),
    "base, share of Large's use of the peak": Figure(0.9, "", ASSUMED),
    "large, share of Large's use of the peak": Figure(1.0, "", "by definition"),
    "scores on held-out records": Figure(1.05, "times the training", "run_settings.EVAL_SHARE"),
    "spot machines that are taken away": Figure(1.1, "times the hours", ASSUMED),
    "a Dataflow worker's use of its processor": Figure(0.7, "", ASSUMED),
    "writes of a bucket at the start": Figure(1000, "a second", RATE_PAGE),
    "reads of a bucket at the start": Figure(5000, "a second", RATE_PAGE),
    "doubling of both": Figure(20, "minutes", RATE_PAGE),
    "an answer of Cloud Storage": Figure(0.05, "s", ASSUMED),
    "transfers at once": Figure(8, "requests", "components/store/bucket.py"),
    "the way from a bucket to a machine": Figure(0.5, "GB/s", ASSUMED),
}
PRICES = {  # US dollars, us-central1 where nothing else is said
    "gpu-l4": Figure(1.000, "an hour with g2-standard-12", CATALOG),
    "gpu-l4, spot": Figure(0.511, "an hour", CATALOG),
    "gpu-a100": Figure(3.673, "an hour with a2-highgpu-1g (40 GB)", CATALOG),
    "gpu-a100, spot": Figure(1.928, "an hour", CATALOG),
    "gpu-h100": Figure(10.979, "an hour with an eighth of a3-highgpu-8g, us-east4", CATALOG),
    "gpu-h100, spot": Figure(4.270, "an hour, us-east4", CATALOG),
    "tpu-v5e": Figure(1.200, "a chip hour, machine included", CATALOG),
    "tpu-v5e, spot": Figure(0.298, "a chip hour", CATALOG),
    "tpu-v6e": Figure(2.700, "a chip hour, machine included", CATALOG),
    "tpu-v6e, spot": Figure(0.593, "a chip hour", CATALOG),
    "n2-standard": Figure(0.0486, "a processor hour with 4 GB", MEMORY),
    "pd-ssd": Figure(0.000233, "a GB hour", MEMORY),
    "Vertex AI, processors": Figure(
        1.15,
        "times Compute Engine's price",
        "n1-standard-4: $0.2185 (vertex-ai/pricing of 2026-10-07, as quoted by api-evangelist/google-vertex-ai) "
        f"over $0.1900 ({MEMORY})",
    ),
    "Vertex AI, accelerators": Figure(
        1.20, "times Compute Engine's price", "a2-highgpu-8g: $35.26 (cubeapm.com, read 2026-12-01) over $29.39"
    ),
    "a run of Vertex AI Pipelines": Figure(
        0.03, "a run", "pricing page of 2026-09-20, as quoted by api-evangelist/google-cloud-automl"
    ),
    "GKE, the cluster": Figure(0.10, "an hour", MEMORY),
    "Dataflow, processor": Figure(0.056, "a processor hour", f"batch; {MEMORY}"),
    "Dataflow, memory": Figure(0.003557, "a GB hour", f"batch; {MEMORY}"),
    "Dataflow, shuffle": Figure(0.011, "a GB", MEMORY),
    "storage": Figure(0.020, "a GB month", f"standard, one region; {STORAGE_PAGE}"),
    "writes and lists": Figure(0.005, "a thousand", f"class A; {STORAGE_PAGE}"),
    "reads": Figure(0.0004, "a thousand", f"class B; {STORAGE_PAGE}"),
}
