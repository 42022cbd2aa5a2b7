# Two commands set up a fresh machine: `make demo` (the lean edge) and `make test` (everything).

PYTHON ?= python3
EDGE := build/edge
DEV := .venv
DEMO := build/demo-bundle
LOCK := requirements-edge.txt
ARAVIS := gir1.2-aravis-0.8 libgirepository1.0-dev libcairo2-dev pkg-config gcc python3-dev
LINT := $(DEV)/bin/ruff format --check . && $(DEV)/bin/ruff check . && $(DEV)/bin/mypy
PIP_FLAGS := --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo demo-bundle demo-flange demo-tilted images test soak simulate cuts powercut fuzz bench lint lock licences release deb deb-test images-test fleet-demo packages clean

# The main job: inspect the sample frames with the sample bundle. No torch, camera or broker.
# With KEEP=1 it goes on with them, and serves the page until Ctrl-C; with PORTS=modbus, too, a PLC
# triggers each (docs/modbus.md), with PORTS=sparkplug they are an edge node (docs/sparkplug.md),
# with PORTS=opcua there is an OPC UA server (docs/opcua.md).
demo: $(EDGE)/installed
	$(EDGE)/bin/edge-run --camera configs/demo/frames --model configs/demo/bottle.xml --once \
		--save build/demo
	@echo 'A part that lies tilted, with a mask and a zone:'
	$(EDGE)/bin/edge-run --camera configs/demo/tilted --model configs/demo/tilted.xml --once \
		--save build/demo/tilted
	@echo 'The page at the station: http://127.0.0.1:8080 $(if $(KEEP),(Ctrl-C ends it),with make demo KEEP=1)'
ifdef KEEP
ifdef PORTS
	@$(EDGE)/bin/pip install $(PIP_FLAGS) '.[$(PORTS)]'
endif
	@test -f build/demo/token || $(EDGE)/bin/edge-run --make-token build/demo/token
	@$(if $(PORTS),,echo "Its token, for actions such as teaching: $$(cat build/demo/token)")
	@$(EDGE)/bin/edge-run --config configs/demo/$(or $(PORTS),station).yaml >/dev/null
endif

# Makes the sample bundles and the sample frames anew: render, train the backbone, fit, export.
demo-bundle: $(DEV)/installed
	rm -rf $(DEMO)
	$(MAKE) demo-flange demo-tilted

$(DEMO)/small.safetensors: | $(DEV)/installed
	mkdir -p $(DEMO)
	$(DEV)/bin/python -m training.demo backbone -o $@

demo-flange: $(DEV)/installed $(DEMO)/small.safetensors
	rm -rf $(DEMO)/flange
	$(DEV)/bin/python -m training.demo dataset -o $(DEMO)/flange
	$(DEV)/bin/python -m training.demo frames -o configs/demo/frames
	$(DEV)/bin/train-station fit --algorithm patchcore --data $(DEMO)/flange --backbone small \
		--weights $(DEMO)/small.safetensors --weights-licence Apache-2.0 \
		--set bank_size=2048 -o $(DEMO)/bottle.safetensors
	$(DEV)/bin/train-station test $(DEMO)/bottle.safetensors --data $(DEMO)/flange
	$(DEV)/bin/export-model $(DEMO)/bottle.safetensors --precision fp32 \
		-o configs/demo/bottle.xml
	$(DEV)/bin/export-model --teacher --backbone small --weights $(DEMO)/small.safetensors \
		--weights-licence Apache-2.0 --precision fp32 --set bank_size=2048 \
		-o configs/demo/teacher.xml

# A part that shifts and turns, its serial number ignored, its sealing face a zone (docs/train.md).
demo-tilted: $(DEV)/installed $(DEMO)/small.safetensors
	rm -rf $(DEMO)/tilted
	$(DEV)/bin/python -m training.demo tilted-dataset -o $(DEMO)/tilted
	$(DEV)/bin/python -m training.demo tilted-frames -o configs/demo/tilted
	$(DEV)/bin/train-station fit --algorithm patchcore --data $(DEMO)/tilted/images \
		--align shift+rotation --reference $(DEMO)/tilted/reference.png --roi 169,89,302,302 \
		--mask $(DEMO)/tilted/mask.yaml --backbone small --weights $(DEMO)/small.safetensors \
		--weights-licence Apache-2.0 --set bank_size=512 -o $(DEMO)/tilted.safetensors
	$(DEV)/bin/export-model $(DEMO)/tilted.safetensors --precision fp16 -o configs/demo/tilted.xml

# The images of README: an overlay of the demo, and the page in a browser.
images: packages $(EDGE)/installed $(DEV)/installed
	$(EDGE)/bin/edge-run --camera configs/demo/frames --model configs/demo/bottle.xml --once \
		--save build/demo >/dev/null
	cp build/demo/*_06_stain_NOK.jpg docs/images/overlay.jpg
	$(EDGE)/bin/edge-run --camera configs/demo/tilted --model configs/demo/tilted.xml --once \
		--save build/demo/tilted >/dev/null
	cp build/demo/tilted/*_01_stain_NOK.jpg docs/images/tilted.jpg
	$(DEV)/bin/python -m tests.support.page_images

# Four workers on two cores, as many tests wait for processes and deadlines; the checks of `lint`
# run beside them. Bytecode is kept, and what numba compiles is compiled once before they begin. All
# of it at the second lowest priority: what gives way to a line, as teaching does, would wait minutes
# for the other workers.
test: packages $(DEV)/installed
	@mkdir -p build
	@renice -n 18 -p $$$$ >/dev/null; \
	( $(LINT) ) >build/lint.log 2>&1 & linting=$$!; \
	PYTHONDONTWRITEBYTECODE= $(DEV)/bin/python -c 'import edge.app.run'; \
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 \
		$(DEV)/bin/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder; tested=$$?; \
	wait $$linting || { cat build/lint.log; exit 1; }; exit $$tested

# With MINUTES=60: all faults in turn against a running site, so long (docs/reliability.md). Without:
# the tests, with rarer faults, more kills and more seeds.
soak: packages $(DEV)/installed $(DEV)/soak
ifdef MINUTES
	$(DEV)/bin/python -m tests.endurance --minutes $(MINUTES) --seed $(or $(SEED),1)
else
	EDGE_SOAK=1 OMP_NUM_THREADS=1 $(DEV)/bin/python -m pytest tests/edge tests/attacks tests/acceptance tests/export tests/training \
		tests/powercut tests/fuzz tests/simulation
endif

# Changed bytes for each parser of foreign bytes, and requests to the page, MINUTES each.
fuzz: packages $(DEV)/installed
	$(DEV)/bin/python -m tests.fuzz --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1)
	$(DEV)/bin/python -m tests.fuzz.page --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1)

# Cuts the power after the calls of a journal's scripted day (docs/reliability.md). EVERY=1 takes all;
# DAYS=100 takes as many seeds, side by side.
cuts: packages $(DEV)/installed
	$(DEV)/bin/python -m tests.powercut.cuts $(or $(SEED),1) $(or $(VERDICTS),10000) $(or $(EVERY),25) $(or $(DAYS),1)

# The same for real: a virtual machine that is ended CUTS times while a station in it inspects.
# STATION=0 has a writer of the journal alone, in a quarter of the time; SYNCHRONOUS=normal is found out.
powercut: packages $(DEV)/installed
	@command -v qemu-system-x86_64 >/dev/null && command -v mmdebstrap >/dev/null \
		|| tests/install-packages qemu-system-x86 mmdebstrap
	$(DEV)/bin/python -m tests.powercut.machine $(or $(CUTS),50) $(or $(SEED),1) \
		$(if $(filter 0,$(STATION)),journal,station) $(or $(SYNCHRONOUS),full)

# Days of stations in virtual time, each under a seed that draws what goes wrong (docs/reliability.md).
# SEED=17 STATIONS=1 DAYS=3 is always the same story; MUTATIONS=1 breaks the product on purpose.
simulate: packages $(DEV)/installed
	OMP_NUM_THREADS=1 $(DEV)/bin/python -m tests.simulation --seed $(or $(SEED),1) \
		--stations $(or $(STATIONS),20) --days $(or $(DAYS),1) $(if $(PARTS),--parts $(PARTS)) \
		$(if $(MINUTES),--minutes $(MINUTES)) $(if $(MUTATIONS),--mutations)

# The frame path in figures, on this machine; run it alone.
bench: packages $(DEV)/installed
	$(DEV)/bin/python -m tests.bench

lint: $(DEV)/installed
	$(LINT)

# Resolves what the lean edge needs, at the versions of constraints.txt, and writes the SHA-256 of
# every file of each package; pip installs from it with --require-hashes.
lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install $(PIP_FLAGS) pip-tools
	build/lock/bin/pip-compile --quiet --generate-hashes --strip-extras --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --constraint constraints.txt \
		--output-file $(LOCK) setup.cfg

# Of every package of the lean edge; then what wheels say of the libraries that they bring along.
licences: $(EDGE)/installed $(DEV)/installed
	@$(DEV)/bin/pip-licenses --python $(EDGE)/bin/python --format markdown --order license --with-urls
	@find $(EDGE)/lib -ipath '*site-packages*' -iname '*3rd-party*' -o -iname '*third-party*' | sort

# dist/: wheel, sdist, bill of materials of the lean edge (CycloneDX), notes, hashes.
release: $(EDGE)/installed $(DEV)/installed
	rm -rf dist
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) \
		$(DEV)/bin/python -m build $(BUILD_FLAGS) --outdir dist .
	$(DEV)/bin/cyclonedx-py environment --output-reproducible --output-format JSON \
		--output-file dist/sbom.cdx.json $(EDGE)/bin/python
	$(DEV)/bin/python -m tools.release sbom
	$(DEV)/bin/python -m tools.release notes --version \
		$$($(DEV)/bin/python -c 'import edge; print(edge.__version__)')
	$(DEV)/bin/python -m tools.release hashes

# dist/: the Debian package of the edge, which needs no network to be installed. Built with the
# interpreter of the Debian that it is for; `make deb-test` installs it in a root made for it.
deb: $(EDGE)/installed
	deploy/debian/build.sh $(EDGE)/bin/python dist

deb-test: deb
	deploy/debian/try.sh dist build/debian-root

# Five stations, a broker and PostgreSQL on this machine: a roll-out, one that is taken back, records.
fleet-demo: packages $(DEV)/installed
	$(DEV)/bin/python -m tests.fleet_demo

# Carries out the steps of deploy/container/Dockerfile without a container engine, and runs what
# comes of them; needs root, debootstrap and the packages of Debian and PyPI.
images-test: packages $(DEV)/installed
	$(DEV)/bin/python -m tools.image_steps build/images
	$(DEV)/bin/python -m tools.composed_plant build/images

# The real services and the browser that tests speak to, strace that sees what they reach, Aravis, and
# what pip compiles its binding with.
packages:
	@command -v mosquitto >/dev/null && command -v mosquitto_sub >/dev/null \
		|| PATH="$$PATH:/usr/sbin" tests/install-packages mosquitto mosquitto-clients
	@command -v systemd-analyze >/dev/null && command -v openssl >/dev/null \
		&& command -v shellcheck >/dev/null \
		|| tests/install-packages systemd openssl shellcheck
	@command -v strace >/dev/null && command -v unshare >/dev/null \
		|| tests/install-packages strace util-linux
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || tests/install-packages postgresql
	@command -v promtool >/dev/null && command -v Xvfb >/dev/null && command -v xwininfo >/dev/null \
		|| tests/install-packages prometheus fonts-nanum xvfb x11-utils
	@command -v chromium-headless-shell >/dev/null \
		|| tests/install-packages chromium-headless-shell || command -v chromium >/dev/null \
		|| tests/install-packages chromium
	@ls /usr/lib/*/girepository-1.0/Aravis-0.8.typelib >/dev/null 2>&1 \
		&& command -v gcc >/dev/null && pkg-config --exists gobject-introspection-1.0 cairo \
		&& $(PYTHON) -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' 2>/dev/null \
		|| tests/install-packages $(ARAVIS)

$(EDGE)/installed: setup.cfg pyproject.toml constraints.txt $(shell find edge -type f -not -name '*.pyc')
	$(PYTHON) -m venv $(EDGE)
	$(EDGE)/bin/pip install $(PIP_FLAGS) .
	touch $@

$(DEV)/installed: setup.cfg pyproject.toml constraints.txt | packages
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/pip install $(PIP_FLAGS) torch
	$(DEV)/bin/pip install $(PIP_FLAGS) --editable '.[test]'
	touch $@

# What the long tests alone speak to.
$(DEV)/soak: $(DEV)/installed
	$(DEV)/bin/pip install $(PIP_FLAGS) --editable '.[soak]'
	touch $@

clean:
	rm -rf build dist $(DEV)
