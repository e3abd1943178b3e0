"""Writes emr/cloudformation/tables.yaml: the lake's tables in Glue, so that Athena reads them.

    python -m emr.glue > emr/cloudformation/tables.yaml

Athena reads the schema from Delta's log; the columns here are for people, Lake Formation and views. `path` stands twice
beside the location, since engines differ in where they look for it.
https://docs.aws.amazon.com/athena/latest/ug/delta-lake-tables.html. None of it has run on AWS."""

from __future__ import annotations

import sys
from typing import Any

import yaml
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    DataType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    StructType,
    TimestampType,
)

from jobs.engines.base import Table
from jobs.tables import TABLES

HEAD = """\
# Written by `python -m emr.glue`; a test compares it with the code.
"""
_PLAIN = (BinaryType, BooleanType, DoubleType, FloatType, IntegerType, LongType, StringType, TimestampType)


def glue_type(kind: DataType) -> str:
    """The name of a type in Glue, which is Hive's. Raises ValueError for one that Athena cannot read from Delta."""
    if isinstance(kind, ArrayType):
        return f"array<{glue_type(kind.elementType)}>"
    if isinstance(kind, StructType):
        return f"struct<{','.join(f'{field.name}:{glue_type(field.dataType)}' for field in kind)}>"
    if not isinstance(kind, _PLAIN):
        raise ValueError(f"{kind.simpleString()} has no type in Glue here")
    return kind.simpleString()


def template() -> dict[str, Any]:
    """The template: a database, its tables, a workgroup that bounds what a query reads, and the reader's policy."""
    arn = "arn:${AWS::Partition}:"
    here = "${AWS::Region}:${AWS::AccountId}:"
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "A lake of imagesieve in Glue, and a workgroup of Athena to query it in.",
        "Parameters": {
            "Bucket": {"Type": "String", "Description": "The bucket of the lake"},
            "Prefix": {
                "Type": "String",
                "AllowedPattern": ".*[^/]",
                "Description": "The lake in it, such as lakes/photos, without a slash at its end",
            },
            "Database": {
                "Type": "String",
                "Default": "imagesieve",
                "AllowedPattern": "[a-z0-9_]+",
                "Description": "The name of the database; another for each lake",
            },
            "Stack": {
                "Type": "String",
                "Default": "imagesieve",
                "Description": "The stack of stack.yaml: results of queries go to its bucket, under athena/",
            },
            "MaxScannedBytes": {
                "Type": "Number",
                "Default": 10_000_000_000,
                "MinValue": 10_000_000,
                "Description": "A query that reads more bytes is stopped",
            },
        },
        "Resources": {
            "LakeDatabase": {
                "Type": "AWS::Glue::Database",
                "Properties": {
                    "CatalogId": {"Ref": "AWS::AccountId"},
                    "DatabaseInput": {"Name": {"Ref": "Database"}, "Description": "A lake of imagesieve"},
                },
            },
            **{_logical(table.name): _table(table) for table in TABLES.values()},
            "Workgroup": {
                "Type": "AWS::Athena::WorkGroup",
                "Properties": {
                    "Name": {"Ref": "Database"},
                    "Description": "Queries of a lake of imagesieve",
                    "RecursiveDeleteOption": True,
                    "WorkGroupConfiguration": {
                        "EnforceWorkGroupConfiguration": True,
                        "PublishCloudWatchMetricsEnabled": True,
                        "BytesScannedCutoffPerQuery": {"Ref": "MaxScannedBytes"},
                        "EngineVersion": {"SelectedEngineVersion": "Athena engine version 3"},
                        "ResultConfiguration": {
                            "OutputLocation": _results("s3://${Results}/athena/"),
                            "EncryptionConfiguration": {"EncryptionOption": "SSE_S3"},
                        },
                    },
                },
            },
            "ReaderPolicy": {
                "Type": "AWS::IAM::ManagedPolicy",
                "Properties": {
                    "Description": "Query a lake of imagesieve in Athena",
                    "PolicyDocument": {
                        "Version": "2012-10-17",
                        "Statement": [
                            _allow(
                                "Query",
                                ["athena:StartQueryExecution", "athena:GetQueryExecution", "athena:GetQueryResults",
                                 "athena:StopQueryExecution", "athena:ListQueryExecutions", "athena:GetWorkGroup"],
                                {"Fn::Sub": f"{arn}athena:{here}workgroup/${{Database}}"},
                            ),
                            _allow(
                                "Catalogue",
                                ["glue:GetDatabase", "glue:GetTable", "glue:GetTables"],
                                [{"Fn::Sub": f"{arn}glue:{here}catalog"},
                                 {"Fn::Sub": f"{arn}glue:{here}database/${{Database}}"},
                                 {"Fn::Sub": f"{arn}glue:{here}table/${{Database}}/*"}],
                            ),
                            _allow(
                                "ListBuckets",
                                ["s3:ListBucket", "s3:GetBucketLocation"],
                                [{"Fn::Sub": f"{arn}s3:::${{Bucket}}"}, _results(f"{arn}s3:::${{Results}}")],
                            ),
                            _allow("ReadLake", "s3:GetObject", {"Fn::Sub": f"{arn}s3:::${{Bucket}}/${{Prefix}}/*"}),
                            _allow(
                                "Results",
                                ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"],
                                _results(f"{arn}s3:::${{Results}}/athena/*"),
                            ),
                        ],
                    },
                },
            },
        },
        "Outputs": {
            "Database": {"Value": {"Ref": "LakeDatabase"}},
            "Workgroup": {"Value": {"Ref": "Workgroup"}},
            "ReaderPolicy": {"Value": {"Ref": "ReaderPolicy"}},
        },
    }  # fmt: skip


def _table(table: Table) -> dict[str, Any]:
    location = {"Fn::Sub": f"s3://${{Bucket}}/${{Prefix}}/{table.name}"}
    return {
        "Type": "AWS::Glue::Table",
        "Properties": {
            "CatalogId": {"Ref": "AWS::AccountId"},
            "DatabaseName": {"Ref": "LakeDatabase"},
            "TableInput": {
                "Name": table.name,
                "Description": f"Key: {', '.join(table.key)}. See docs/tables.md",
                "TableType": "EXTERNAL_TABLE",
                "Parameters": {
                    "EXTERNAL": "TRUE",
                    "classification": "delta",
                    "table_type": "DELTA",
                    "spark.sql.sources.provider": "delta",
                    "path": location,
                },
                "StorageDescriptor": {
                    "Location": location,
                    "Columns": [{"Name": column.name, "Type": glue_type(column.dataType)} for column in table.schema],
                    # As Spark registers a Delta table; nothing reads through them.
                    "InputFormat": "org.apache.hadoop.mapred.SequenceFileInputFormat",
                    "OutputFormat": "org.apache.hadoop.hive.ql.io.HiveSequenceFileOutputFormat",
                    "SerdeInfo": {
                        "SerializationLibrary": "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe",
                        "Parameters": {"serialization.format": "1", "path": location},
                    },
                },
            },
        },
    }


def _logical(name: str) -> str:
    return f"Table{name.title().replace('_', '')}"


def _results(text: str) -> dict[str, Any]:
    """A text with ${Results}: the bucket that the stack exports."""
    return {"Fn::Sub": [text, {"Results": {"Fn::ImportValue": {"Fn::Sub": "${Stack}-Bucket"}}}]}


def _allow(sid: str, action: str | list[str], resource: Any) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": action, "Resource": resource}


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # CloudFormation reads no YAML aliases
        return True


def text() -> str:
    """The file's text."""
    return HEAD + yaml.dump(template(), Dumper=_Plain, sort_keys=False, width=120)


if __name__ == "__main__":
    sys.stdout.write(text())
