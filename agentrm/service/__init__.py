"""The scoring service: its HTTP form, the forms of other reward servers, its metrics and its client."""
