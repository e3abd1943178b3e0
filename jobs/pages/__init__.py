"""The pages of the report: plain values, their words, their templates."""
