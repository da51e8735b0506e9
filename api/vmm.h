/* SPDX-License-Identifier: Apache-2.0 */
/* The one microVM of a riffle-vmm: what has been configured, and the machine once it runs. The main thread's. */
#ifndef RIFFLE_API_VMM_H
#define RIFFLE_API_VMM_H

#include "api/action.h"
#include "api/firecracker.h"
#include "machine/machine.h"
#include "monitor/core/cpu_config.h"

/* More than a machine takes: which of them are too many is found out at the start, as in Firecracker. */
#define VMM_DEVICES_MAX 32u

enum vmm_state { VMM_NOT_STARTED, VMM_RUNNING, VMM_PAUSED };

/* What is kept of a body has the memory that it points to, and what was opened for it; -1: nothing. */
struct vmm_boot_source {
	bool set;
	struct arena arena;
	struct body_boot_source body;
	int kernel_fd, initrd_fd;
};

struct vmm_drive {
	struct arena arena;
	struct arena patched; /* the path, when it was replaced while the guest ran */
	struct body_drive body;
	int fd;
};

struct vmm_net {
	struct arena arena;
	struct body_net body;
	int fd;
	bool mmds; /* its guest reaches the metadata service */
};

struct vmm_pmem {
	struct arena arena;
	struct body_pmem body;
	int fd;
};

struct vmm_vsock {
	bool set;
	struct arena arena;
	struct body_vsock body;
	int listener;
	uint64_t device, inode; /* of the socket that was bound: whatever else has its name later is not ours */
};

enum vmm_template { VMM_TEMPLATE_NONE, VMM_TEMPLATE_STATIC, VMM_TEMPLATE_CUSTOM };

struct vmm_resources {
	bool for_boot; /* something was configured that a snapshot brings along: none can be loaded any more */
	struct body_machine machine;
	enum vmm_template template;
	struct arena cpu_arena;
	struct body_cpu cpu; /* the custom template */
	struct vmm_boot_source boot_source;
	struct vmm_drive drives[VMM_DEVICES_MAX]; /* the root drive first */
	struct vmm_net nets[VMM_DEVICES_MAX];
	struct vmm_pmem pmems[VMM_DEVICES_MAX];
	unsigned drive_count, net_count, pmem_count;
	struct vmm_vsock vsock;
	bool has_entropy, has_balloon, has_hotplug;
	struct body_entropy entropy;
	struct body_balloon balloon;
	struct body_hotplug hotplug;
	struct arena serial_arena;
	struct body_serial serial;
	int serial_fd;
	struct {
		bool set;
		int version;
		uint32_t address;
		bool imds_compat;
	} mmds;
};

/* What the process was started with; none of it changes. */
struct vmm_settings {
	const char *id;
	const char *cache_directory; /* NULL: the default */
	size_t mmds_size_limit;
	bool boot_timer, accept_emulation, unconfined, one_time_snapshots;
	bool checks_only; /* PUTs make and open nothing but files for reading: no interface, no socket */
};

struct mmds;
struct vmm {
	struct vmm_settings settings;
	enum vmm_state state;
	struct vmm_resources resources;
	struct machine *machine; /* while it is started, and runs */
	struct mmds *mmds;       /* made when first needed */
	bool fatal;              /* a snapshot failed to load: the process is to end with exit code 1 */
	/* the guest's instructions begin, or the start failed: called once by vmm_run() with the answer to the start */
	void (*started)(void *opaque, struct reply *reply);
	void *opaque;
	char kernel_name[16], initrd_name[16];
	struct arena load_arena;          /* of the request that loaded a snapshot */
	struct cpu_cpuid_modifier *cpuid; /* of the custom template, made at the start */
};

void vmm_init(struct vmm *vmm, const struct vmm_settings *settings);
void vmm_destroy(struct vmm *vmm);

/*
 * Carries out what was asked, by phase; takes what it keeps out of *action. Before the start any thread that owns *vmm,
 * afterwards the machine's event loop. Not for ACTION_START: that is vmm_run().
 */
void vmm_handle(struct vmm *vmm, struct action *action, struct reply *reply);

/*
 * Builds the machine of what was configured and runs it. False: that failed, vmm->started() was told, and everything is
 * as before. True: the guest ran, and ended: *end and *error as of machine_run(), the machine is still there.
 */
bool vmm_run(struct vmm *vmm, enum vm_end *end, struct riffle_error *error);

/*
 * stock.c: machine_build() for an item of boot-source's `stock`, with the devices of *config. STOCK_EMPTY: it has none,
 * or no stock was configured.
 */
int vmm_start_from_stock(struct vmm *vmm, struct machine_config *config, const struct machine_observer *observer,
			 struct phases *phases, const char **blame, struct riffle_error *error);

/* resources.c, resources_net.c: what PUTs before the start do. False after reply_fault(). */
bool vmm_put_boot_source(struct vmm *vmm, struct action *action, struct reply *reply);
bool vmm_put_machine(struct vmm *vmm, struct action *action, struct reply *reply);
bool vmm_put_cpu(struct vmm *vmm, struct action *action, struct reply *reply);
bool vmm_put_drive(struct vmm *vmm, struct action *action, struct reply *reply);
bool vmm_put_pmem(struct vmm *vmm, struct action *action, struct reply *reply);
bool vmm_put_net(struct vmm *vmm, struct action *action, struct reply *reply);
bool vmm_put_vsock(struct vmm *vmm, struct action *action, struct reply *reply);
bool vmm_put_entropy(struct vmm *vmm, struct action *action, struct reply *reply);
bool vmm_put_serial(struct vmm *vmm, struct action *action, struct reply *reply);
bool vmm_put_balloon(struct vmm *vmm, struct action *action, struct reply *reply);
bool vmm_put_hotplug(struct vmm *vmm, struct action *action, struct reply *reply);
bool vmm_put_mmds_config(struct vmm *vmm, struct action *action, struct reply *reply);
/* logging.c */
bool vmm_put_logger(struct vmm *vmm, struct action *action, struct reply *reply);
bool vmm_put_metrics(struct vmm *vmm, struct action *action, struct reply *reply);
bool vmm_flush_metrics(struct vmm *vmm, struct reply *reply);

/* vmm_mmds.c: GET, PUT and PATCH of the metadata in each phase; what networks need so that it is reached; its end. */
void vmm_handle_mmds(struct vmm *vmm, struct action *action, struct reply *reply);
bool vmm_describe_mmds(struct vmm *vmm, struct machine_devices_config *devices, struct reply *reply);
/* The same from the description in a snapshot, which the service comes with, empty. */
int vmm_adopt_mmds(struct vmm *vmm, struct machine_devices_config *devices, struct riffle_error *error);
void vmm_destroy_mmds(struct vmm *vmm); /* after the machine */
/* From --metadata: process_panic() if it is no JSON; false with the problem if it does not fit. */
bool vmm_set_metadata(struct vmm *vmm, const char *json, char *problem, size_t room);
void vmm_resources_init(struct vmm_resources *resources);
void vmm_resources_free(struct vmm_resources *resources);

/* runtime.c: what is done to a machine that runs. */
void vmm_handle_running(struct vmm *vmm, struct action *action, struct reply *reply);

/* view.c: bodies of GET, malloc()ed; NULL: no memory. */
char *vmm_view_info(const struct vmm *vmm);
char *vmm_view_version(void);
char *vmm_view_machine(const struct vmm *vmm);
char *vmm_view_balloon(const struct vmm *vmm);
char *vmm_view_config(const struct vmm *vmm);

/*
 * adopt.c: what GET shows, and PATCH looks for, of a machine that was made of a snapshot. Errors: FORMAT, if what the
 * snapshot says of it is not of that machine.
 */
int vmm_adopt(struct vmm *vmm, const struct machine_config *config, struct riffle_error *error);
/* Before its devices are made: ids for those that have none, so that requests can name them. Errors: MEMORY. */
int vmm_adopt_names(struct vmm *vmm, struct machine_devices_config *devices, struct riffle_error *error);

/* snapshot.c. Loading is vmm_run() with a snapshot; on failure vmm->fatal is set as well. */
bool vmm_create_snapshot(struct vmm *vmm, struct action *action, struct reply *reply);
bool vmm_may_load(const struct vmm *vmm, struct reply *reply);
bool vmm_run_snapshot(struct vmm *vmm, struct action *action, enum vm_end *end, struct riffle_error *error);

/* start.c: what does not depend on the machine itself: the console, confinement. */
bool vmm_describe_host(struct vmm *vmm, struct machine_config *config, struct reply *reply);
/*
 * start.c: whether InstanceStart would find a machine of what was configured, before it opens the kernel; nothing is
 * logged. Errors: ARGUMENT, with "command_line" or what machine_config_check() names.
 */
int vmm_check_machine(struct vmm *vmm, struct riffle_error *error);
/* start.c: the machine's description, of which *vmm keeps the memory. */
bool vmm_describe(struct vmm *vmm, struct machine_config *config, struct reply *reply);

/* "No such file or directory (os error 2)" */
const char *vmm_os_error(int number, char *text, size_t room);

#endif
