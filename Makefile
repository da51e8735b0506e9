# SPDX-License-Identifier: Apache-2.0
# The few commands a person needs; the build itself is meson's.
BUILD ?= build

.PHONY: all setup build compile demo check check-long bench kernels install clean help

all: build

help:
	@echo "make demo        set up, build, boot a stock kernel three times, randomised, and show it"
	@echo "make check       set up, build, run every test (45 minutes at most on 2 cores)"
	@echo "make check-long  the proof that takes longer: big kernels, many seeds, long fuzzing"
	@echo "make bench       the paper's evaluation: every cell, resumed where it was (hours; docs/evaluation.md)"
	@echo "make kernels     build the kernels of docs/kernels.md (10 minutes to 2 hours; KERNEL=lupine: only that one)"
	@echo "make install     install by meson (PREFIX=/somewhere, DESTDIR)"

setup:
	@tools/setup all

# a build directory that is there is brought up to date by ninja itself
$(BUILD)/build.ninja:
	@meson setup $(BUILD) > /dev/null

build: setup
	@$(MAKE) --no-print-directory compile

compile: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet

demo: build
	@tools/demo

check: setup
	@tools/check

check-long: setup
	@tools/setup package
	@tools/setup long
	@tools/check --long

# cells that are done are kept in ~/.cache/riffle-bench; BENCH="--limit 60 --kernels lupine" and the like choose
BENCH ?=
bench: build
	@bench/evaluate $(BENCH)
	@bench/report $${XDG_CACHE_HOME:-$$HOME/.cache}/riffle-bench

# one, or all of them, smallest first; prints where each is
KERNEL ?= lupine microvm distro judge
kernels:
	@for k in $(KERNEL); do tools/build-kernel $$k || exit; done

install: compile
	@tools/install $(BUILD)

clean:
	rm -rf $(BUILD) build-*
