"""The settings of a run, a module a group; `hpjax.config.Config` joins them."""
