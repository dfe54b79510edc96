"""Recording and alerting rules. Their source is the Helm chart's `files/rules.yaml.tpl`."""
