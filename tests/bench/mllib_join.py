"""Pairs of near vectors by Spark MLlib's BucketedRandomProjectionLSH joined with itself: run as a script.

    python mllib_join.py vectors.npy COSINE BUCKET_LENGTH TABLES pairs.npy

Writes (p, 2) row numbers, the first below the second, of the pairs that it finds with at least that cosine.
vectors: (n, d) float32 of norm 1. Between them a cosine is a distance, which is what MLlib asks for.
"""

import sys

import numpy as np


def main(argv: list[str]) -> int:
    from pyspark.ml.feature import BucketedRandomProjectionLSH
    from pyspark.ml.functions import array_to_vector
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as F

    vectors = np.load(argv[0])
    session = SparkSession.builder.master("local[*]").config("spark.driver.memory", "3g")
    session = session.config("spark.sql.execution.arrow.pyspark.enabled", "true").config("spark.ui.enabled", "false")
    spark = (
        session.config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1").getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    import pandas as pd

    rows = spark.createDataFrame(pd.DataFrame({"id": np.arange(len(vectors)), "vector": list(vectors)}))
    rows = rows.select("id", array_to_vector(F.col("vector")).alias("vector")).repartition(
        2 * spark.sparkContext.defaultParallelism
    )
    lsh = BucketedRandomProjectionLSH(
        inputCol="vector", outputCol="hashes", seed=0, bucketLength=float(argv[2]), numHashTables=int(argv[3])
    )
    model = lsh.fit(rows)
    hashed = model.transform(rows).cache()
    distance = float(np.sqrt(2 - 2 * float(argv[1])))
    joined = model.approxSimilarityJoin(hashed, hashed, distance, "distance").where("datasetA.id < datasetB.id")
    pairs = joined.select(F.col("datasetA.id").alias("a"), F.col("datasetB.id").alias("b")).toPandas()
    np.save(argv[4], pairs.to_numpy(np.int64).reshape(-1, 2))
    spark.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
