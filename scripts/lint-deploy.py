"""Holds deploy/ to Kubernetes' schemas, the compose specification and PromQL's grammar; ends with 1 where something is wrong."""

import json
import pathlib
import re
import sys

import compose_spec
import kubernetes_validate
import promql_parser
import yaml

# The newest that the checker knows and the oldest that the manifests promise: a field that came or went is seen.
KUBERNETES = ["1.37", "1.31"]
DEPLOY = pathlib.Path(__file__).resolve().parent.parent / "deploy"


def manifests():
    for path in sorted(DEPLOY.glob("kubernetes/**/*.yaml")):
        for resource in yaml.safe_load_all(path.read_text()):
            if resource["kind"] == "Kustomization":
                for listed in resource["resources"]:
                    if not (path.parent / listed).is_file():
                        yield path, f"{listed} is not there"
                continue
            for version in KUBERNETES:
                try:
                    kubernetes_validate.validate(resource, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    at = ".".join(str(part) for part in error.path)
                    yield path, f"Kubernetes {version}, {resource['kind']} {at}: {error.message}"


def compose():
    for path in sorted(DEPLOY.glob("compose/compose*.yaml")):
        try:
            # With the variables' defaults, as where none is set.
            text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", path.read_text())
            file = compose_spec.PyCompose.from_yaml(text)
            file.validate()
        except Exception as error:  # whatever the checker raises is what is wrong
            yield path, str(error)


def queries():
    path = DEPLOY / "prometheus/alerts.yml"
    for group in yaml.safe_load(path.read_text())["groups"]:
        for rule in group["rules"]:
            yield path, rule["alert"], rule["expr"]
    path = DEPLOY / "grafana/slated.json"
    for panel in json.loads(path.read_text())["panels"]:
        for target in panel["targets"]:
            # Grafana puts these in.
            query = target["expr"].replace("$__rate_interval", "5m").replace("$__range", "1h").replace("$__interval", "1m")
            yield path, panel["title"], query


def grammar():
    seen = 0
    for path, name, query in queries():
        seen += 1
        try:
            promql_parser.parse(query)
        except Exception as error:  # as above
            yield path, f"{name}: {error}"
    if seen < 30:
        yield DEPLOY, f"only {seen} queries were found"


wrong = [f"{path.relative_to(DEPLOY.parent)}: {problem}" for check in (manifests, compose, grammar) for path, problem in check()]
if wrong:
    sys.exit("\n".join(wrong))
