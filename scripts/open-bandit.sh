#!/usr/bin/env bash
# Fetches the Open Bandit Dataset's small version (10,000 rows a campaign and policy) into .slated/ and prints where.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The last release whose wheel carries the data.
WHEEL='obp==0.4.1 --hash=sha256:87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208'
FOLDER=$FETCHED/open-bandit

if ! is_fetched "$FOLDER" NOTICE "$WHEEL"; then
    open_wheel "$WHEEL" --python-version 3.10
    for policy in random bts; do
        for campaign in all men women; do
            mkdir -p "$STAGE/content/$policy/$campaign"
            mv "$STAGE/wheel/obp/dataset/obd/$policy/$campaign"/*.csv "$STAGE/content/$policy/$campaign/"
        done
    done
    cat >"$STAGE/content/NOTICE" <<'NOTICE'
Open Bandit Dataset, small version: 10,000 rows for each campaign (all, men, women) and logging policy (random, bts).

Released by ZOZO, Inc. (https://research.zozo.com/data.html) under the Creative Commons Attribution 4.0 International
licence, CC BY 4.0: https://creativecommons.org/licenses/by/4.0/

Yuta Saito, Shunsuke Aihara, Megumi Matsutani, Yusuke Narita: "Open Bandit Dataset and Pipeline: Towards Realistic and
Reproducible Off-Policy Evaluation", arXiv:2008.07146.

The CSV files are unchanged, as shipped in the Python package named in SOURCE.
NOTICE
    publish "$FOLDER" NOTICE "$WHEEL"
fi

printf '%s\n' "$FOLDER"
