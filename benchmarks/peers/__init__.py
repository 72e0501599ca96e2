"""Scripts that run in the environment of the peers; each prints one line of JSON, and none imports stemjax."""
