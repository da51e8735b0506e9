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

#define MACHINE_DISKS_MAX 17u
#define MACHINE_NETS_MAX 17u
#define MACHINE_PMEMS_MAX 17u

/* Ids are chosen by the user, for machine/control.h; NULL: the device cannot be addressed. */

struct machine_disk {
	const char *id;
	const char *path; /* with a descriptor: for messages */
	bool
	    has_fd; /* the image is already open as `fd`, which the caller owns and keeps open as long as the machine */
	int fd;
	bool shared; /* do not lock it: the user is responsible for other users of it */
	bool read_only;
	bool root;            /* the guest's root file system, or the disk that holds it */
	const char *partuuid; /* of the root partition; NULL: the whole disk */
	bool raw;             /* whatever format the image seems to have */
	enum disk_cache cache;
	enum block_engine_kind io;
	bool async;         /* the io_engine that an API client requested: reported back, without effect */
	const char *serial; /* NULL: derived from the file's identity */
	struct limiter_config limits;
};

/* An entropy device. */
struct machine_rng {
	bool wanted;
	struct limiter_config limits;
};

enum machine_net_kind {
	MACHINE_NET_TAP,  /* an interface of the host, by its name */
	MACHINE_NET_FD,   /* one that is already open */
	MACHINE_NET_USER, /* through passt, without privileges */
};

enum machine_mac {
	MACHINE_MAC_RANDOM,
	MACHINE_MAC_GIVEN,
	MACHINE_MAC_NONE, /* the guest makes one up */
};

struct machine_net {
	const char *id;
	enum machine_net_kind kind;
	const char *tap; /* with a descriptor: for messages, NULL: none */
	int fd;          /* from net_tap_descriptor() or equivalent; owned by the caller */
	struct passt_config user;
	enum machine_mac mac_kind;
	uint8_t mac[6];
	uint16_t mtu; /* 0: the usual */
	struct limiter_config rx, tx;
	bool metadata;               /* the guest can reach the metadata service, through the hook */
	const struct net_hook *hook; /* takes part in the guest's network (monitor/virtio/net.h); NULL: none */
};

/* A file that is the guest's persistent memory: /dev/pmem0 and so on, mapped and never copied. */
struct machine_pmem {
	const char *id;
	const char *path; /* with a descriptor: for messages */
	bool has_fd;      /* the file is already open as `fd`, owned by the caller */
	int fd;
	bool read_only;
	bool root; /* the guest's root file system, instead of a disk */
	struct limiter_config limits;
};

struct machine_vsock {
	const char *path; /* NULL: none */
	uint64_t cid;
	bool has_listener; /* `listener` is from vsock_bind() for that path, owned by the caller */
	int listener;
};

struct machine_balloon {
	bool wanted;
	struct balloon_config balloon; /* the machine sets memory_bytes */
};

/* A metadata service, implemented by the front end; kept here so that snapshots include it. */
struct machine_metadata {
	bool wanted;
	int version;      /* 1 or 2 */
	uint32_t address; /* IPv4, host byte order */
	bool imds_compat;
};

struct machine_devices_config {
	struct machine_metadata metadata;
	bool timed; /* devices record durations */
	struct machine_disk disks[MACHINE_DISKS_MAX];
	unsigned disk_count;
	struct machine_rng rng;
	struct machine_net nets[MACHINE_NETS_MAX];
	unsigned net_count;
	struct machine_pmem pmems[MACHINE_PMEMS_MAX];
	unsigned pmem_count;
	struct machine_vsock vsock;
	struct machine_balloon balloon;
	bool root_in_order; /* put root= directly before its device, whatever the command line has, as Firecracker does
			     */
};

static inline unsigned machine_devices_wanted(const struct machine_devices_config *config)
{
	return config->disk_count + config->net_count + config->pmem_count + config->rng.wanted +
	       config->balloon.wanted + (config->vsock.path != NULL);
}

#endif
