/* SPDX-License-Identifier: Apache-2.0 */
/* The options of `riffle run` that describe devices. */
#ifndef RIFFLE_CLI_COMMANDS_DEVICE_OPTIONS_H
#define RIFFLE_CLI_COMMANDS_DEVICE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "machine/device_config.h"

/*
 * The values of --disk, --rng, --net, --vsock and --balloon. False: `problem` is one line. Strings are kept for the
 * life of the process.
 */
bool device_options_disk(struct machine_devices_config *config, const char *text, char *problem, size_t room);
bool device_options_rng(struct machine_devices_config *config, const char *text, char *problem, size_t room);
bool device_options_net(struct machine_devices_config *config, const char *text, char *problem, size_t room);
bool device_options_vsock(struct machine_devices_config *config, const char *text, char *problem, size_t room);
bool device_options_balloon(struct machine_devices_config *config, const char *text, char *problem, size_t room);

#endif
