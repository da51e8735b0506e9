/* SPDX-License-Identifier: Apache-2.0 */
/* The network devices of a machine: each with the interface or the passt that carries its frames. */
#include <stdio.h>
#include <string.h>

#include "machine/devices.h"

/* The guest keeps its device, and hears nothing on it any more. */
static void lost(void *opaque)
{
	struct machine_net_state *state = opaque;
	const struct machine_devices *devices = state->devices;

	snprintf(state->words, sizeof state->words, "%s: the network is gone; the guest continues without it",
		 state->name);
	if (devices->notice)
		devices->notice(devices->notice_opaque, state->words);
}

static int open_user(struct machine_net_state *state, const struct passt_config *config, struct net_backend **backend,
		     struct riffle_error *error)
{
	int status = passt_start(&state->passt, config, error);

	if (status)
		return status;
	int fd = state->passt.fd;

	state->passt.fd = -1;
	return net_stream_adopt(backend, fd, error);
}

static int open_backend(struct machine_net_state *state, const struct machine_net *config, struct net_backend **backend,
			struct riffle_error *error)
{
	switch (config->kind) {
	case MACHINE_NET_TAP:
		return net_tap_open(backend, config->tap, error);
	case MACHINE_NET_FD:
		return net_tap_adopt(backend, config->fd, error);
	default:
		return open_user(state, &config->user, backend, error);
	}
}

int machine_net_make(struct machine_net_state *state, const struct machine_net *config, const char **blame,
		     struct riffle_error *error)
{
	struct net_config net = {
	    .has_mac = config->mac_kind != MACHINE_MAC_NONE,
	    .mtu = config->mtu,
	    .rx = config->rx,
	    .tx = config->tx,
	    .hook = config->hook,
	    .lost = lost,
	    .opaque = state,
	};
	struct net_backend *backend;
	int status = 0;

	state->passt = (struct passt){.fd = -1, .errors = -1};
	state->id = config->id;
	state->name = config->kind == MACHINE_NET_USER ? "passt" : config->tap ? config->tap : "net";
	net.name = state->name;
	*blame = config->kind != MACHINE_NET_USER && config->tap ? config->tap : "net";
	memcpy(net.mac, config->mac, sizeof net.mac);
	if (config->mac_kind == MACHINE_MAC_RANDOM)
		status = net_random_mac(net.mac, error);
	if (!status)
		status = open_backend(state, config, &backend, error);
	return status ? status : net_new(&state->device, &net, backend, error);
}

int machine_net_ready(struct machine_net_state *state, struct riffle_error *error)
{
	int status = passt_ready(&state->passt, state->words, sizeof state->words, error);

	if (status && state->words[0])
		error->problem = state->words;
	return status;
}

void machine_net_destroy(struct machine_net_state *state)
{
	passt_close(&state->passt);
}
