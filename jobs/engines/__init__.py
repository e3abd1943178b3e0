"""The engines: Sail, embedded, on one machine; Spark by spark-submit and on clusters.

`base` says what a stage needs of one, `frames` is how stages ask for it, `choice` says which one runs; `sail` and
`spark` are the two."""
