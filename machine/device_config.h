/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio devices of a machine's description. */
#ifndef RIFFLE_MACHINE_DEVICE_CONFIG_H
#define RIFFLE_MACHINE_DEVICE_CONFIG_H

#include <stdbool.h>

#include "monitor/virtio/balloon.h"
#include "monitor/virtio/block_io.h"
#include "monitor/virtio/disk_image.h"
#include "monitor/virtio/limiter.h"
#include "monitor/virtio/net.h"
#include "monitor/virtio/passt.h"

#define MACHINE_DISKS_MAX 16u
#define MACHINE_NETS_MAX 8u

struct machine_disk {
	const char *path;
	bool read_only;
	bool root;            /* the guest's root file system, or the disk that holds it */
	const char *partuuid; /* of the root partition; NULL: the whole disk */
	bool raw;             /* whatever the image looks like */
	enum disk_cache cache;
	enum block_engine_kind io;
	const char *serial; /* NULL: made of the file's identity */
	struct limiter_config limits;
};

/* An entropy device. */
struct machine_rng {
	bool wanted;
	struct limiter_config limits;
};

enum machine_net_kind {
	MACHINE_NET_TAP,  /* an interface of the host, by its name */
	MACHINE_NET_FD,   /* one that is open already */
	MACHINE_NET_USER, /* through passt, without privileges */
};

enum machine_mac {
	MACHINE_MAC_RANDOM,
	MACHINE_MAC_GIVEN,
	MACHINE_MAC_NONE, /* the guest makes one up */
};

struct machine_net {
	enum machine_net_kind kind;
	const char *tap;
	int fd; /* the device's once it is made */
	struct passt_config user;
	enum machine_mac mac_kind;
	uint8_t mac[6];
	uint16_t mtu; /* 0: the usual */
	struct limiter_config rx, tx;
	const struct net_hook *hook; /* who takes part in the guest's network (monitor/virtio/net.h); NULL: nobody */
};

struct machine_vsock {
	const char *path; /* NULL: none */
	uint64_t cid;
};

struct machine_balloon {
	bool wanted;
	struct balloon_config balloon; /* memory_bytes is left to the machine */
};

struct machine_devices_config {
	struct machine_disk disks[MACHINE_DISKS_MAX];
	unsigned disk_count;
	struct machine_rng rng;
	struct machine_net nets[MACHINE_NETS_MAX];
	unsigned net_count;
	struct machine_vsock vsock;
	struct machine_balloon balloon;
};

#endif
