#!/bin/sh
# A small store, as the `bertline` on the PATH makes it: `sh tests/data/make_store.sh NEW_FOLDER` (2 minutes).
# Paths are relative, so that no file names a machine's folders. `interrupted.work` is what SIGTERM left of a training;
# `scores` are those of the checkpoints, of a second stage, and of that training once it had gone on to its end.
set -eu
sentences=$(cd "$(dirname "$0")" && pwd)/sentences.txt
mkdir -p "$1/text" && cd "$1"

# Six sentences of each of the first twelve documents.
awk 'BEGIN { n = 1 } /^$/ { n++; lines = 0; next } n <= 12 && lines++ < 6 { print > sprintf("text/%02d.txt", n) }' \
    "$sentences"
cat > bert_config.json <<'CONFIG'
{"vocab_size": 200, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
 "max_position_embeddings": 64}
CONFIG

bertline ingest --text='text/*.txt' --out=documents
bertline split --documents=documents --out=sentences
bertline vocab --sentences=sentences --size=200 --out=vocab.txt
prepare="bertline prepare --sentences=sentences --vocab=vocab.txt --dupe_factor=1 --heldout_share=0.3"
$prepare --max_seq_length=32 --max_predictions_per_seq=5 --out=records_32
$prepare --max_seq_length=32 --max_predictions_per_seq=5 --part=heldout --out=heldout_32
$prepare --max_seq_length=64 --max_predictions_per_seq=10 --schema=compact --out=records_64

# The learning rate is so high that the best weights are not the last.
stages="--train_batch_size=8 --num_train_steps=60 --num_warmup_steps=5 --learning_rate=0.01 --log_every_steps=10"
first="--records=records_32 --vocab=vocab.txt --model=bert_config.json --max_seq_length=32"
bertline pretrain $first $stages --stop_at_step=40 --heldout=heldout_32 --eval_every_steps=10 --out=checkpoint_32
bertline pretrain --records=records_64 --checkpoint=checkpoint_32 --max_seq_length=64 $stages --out=second

interrupted="--train_batch_size=8 --num_train_steps=300 --num_warmup_steps=5 --log_every_steps=10 --out=interrupted"
interrupted="pretrain $first --save_checkpoints_steps=25 --keep_checkpoints=1 $interrupted"
bertline $interrupted &
until ls interrupted.work/snapshot-* > /dev/null 2>&1; do sleep 0.01; done
kill -TERM $!
wait $! || [ $? -eq 75 ]
cp -R interrupted.work kept
bertline $interrupted

mkdir scores
for checkpoint in checkpoint_32 checkpoint_32/best second interrupted; do
    bertline evaluate --checkpoint=$checkpoint --records=heldout_32 --out="scores/$(basename $checkpoint)"
done
rm -r text second interrupted ./*.tensorboard
mv kept interrupted.work
