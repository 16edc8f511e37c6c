# Everything goes through .venv; the first call of any target sets it up.
PY := .venv/bin/python
STAMP := .venv/.ready

.PHONY: demo test setup check fix slow golden bench bench-peers profile

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -x $(PY) || python3 -m venv .venv
	@$(PY) -c "import torch" 2>/dev/null || $(PY) -m pip install --quiet -c constraints.txt $$(grep ^torch== constraints.txt)
	@$(PY) -m pip install --quiet -c constraints.txt --no-build-isolation setuptools wheel
	@$(PY) -m pip install --quiet -c constraints.txt --no-build-isolation -e ".[dev,h5,cluster]"
	@touch $@

demo: setup
	.venv/bin/raylift reconstruct examples/lidc-idri-0001/PA.dcm examples/lidc-idri-0001/LAT.dcm \
	  --truth examples/lidc-idri-0001/ct.nii.gz -o demo-out
	@echo "The report: demo-out/report.html"

test: setup
	$(PY) -m pytest -m "not slow and not gpu"

check: setup
	$(PY) -m ruff format --check src tests bench
	$(PY) -m ruff check src tests bench
	.venv/bin/lint-imports
	$(PY) -m pytest -m "not slow and not gpu and not real"

fix: setup
	$(PY) -m ruff format src tests bench
	$(PY) -m ruff check --fix src tests bench

slow: setup
	$(PY) -m pytest -m "slow or gpu"

golden: setup
	$(PY) tests/golden/write.py
	$(PY) -c "from raylift.cli import reference; print(reference(), end='')" > docs/cli.md

bench: setup
	for each in bench/*.py; do $(PY) $$each || exit 1; done

bench-peers:
	python3 -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet -c constraints.txt $$(grep ^torch== constraints.txt)
	.venv-bench/bin/python -m pip install --quiet itk-rtk==2.7.0 nanodrr==0.1.7

profile: setup
	$(PY) bench/training.py --profile $(MODEL)

