// SPDX-License-Identifier: Apache-2.0
/* What PUTs of network interfaces, of their metadata service and of the vsock do before the start. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/vmm.h"
#include "monitor/virtio/net_backend.h"

#define MMDS_DEFAULT_ADDRESS 0xa9fea9feu /* 169.254.169.254 */
#define LISTEN_BACKLOG 128

static unsigned find_net(const struct vmm_resources *r, const char *id)
{
	unsigned i = 0;

	while (i < r->net_count && strcmp(r->nets[i].body.iface_id, id))
		i++;
	return i;
}

static void drop_net(struct vmm_resources *r, unsigned at)
{
	arena_free(&r->nets[at].arena);
	if (r->nets[at].fd >= 0)
		close(r->nets[at].fd);
	r->nets[at] = r->nets[--r->net_count];
}

static bool mac_in_use(const struct vmm_resources *r, const struct body_net *net)
{
	for (unsigned i = 0; net->has_mac && i < r->net_count; i++) {
		const struct body_net *other = &r->nets[i].body;

		if (other->has_mac && !memcmp(other->guest_mac, net->guest_mac, 6) &&
		    strcmp(other->iface_id, net->iface_id))
			return true;
	}
	return false;
}

bool vmm_put_net(struct vmm *vmm, struct action *action, struct reply *reply)
{
	static const char prefix[] = "Network config error: Could not create the network device:";
	struct vmm_resources *r = &vmm->resources;
	struct vmm_net net = {.body = action->u.net, .fd = -1};
	const uint8_t *mac = net.body.guest_mac;
	unsigned at = find_net(r, net.body.iface_id);
	struct riffle_error error;
	char words[160];

	if (mac_in_use(r, &net.body))
		return reply_fault(reply,
				   "Network config error: The MAC address is already in use: "
				   "%02x:%02x:%02x:%02x:%02x:%02x",
				   mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	if (net.body.has_mtu && (net.body.mtu < 68))
		return reply_fault(reply, "%s MTU must be between 68 and 65535", prefix);
	/* the old one is gone before the tap is opened, which may be the same; the last one takes its place */
	if (at < r->net_count)
		drop_net(r, at);
	if (r->net_count == VMM_DEVICES_MAX)
		return reply_fault(reply, "%s there are too many", prefix);
	if (!vmm->settings.checks_only && net_tap_descriptor(&net.fd, net.body.host_dev_name, &error)) {
		if (!error.sys_errno)
			return reply_fault(reply, "%s Open tap device failed: Invalid interface name", prefix);
		if (!strcmp(error.field, "/dev/net/tun"))
			return reply_fault(reply, "%s Open tap device failed: Couldn't open /dev/net/tun: %s", prefix,
					   vmm_os_error(error.sys_errno, words, sizeof words));
		return reply_fault(reply,
				   "%s Open tap device failed: Error while creating ifreq structure: %s. Invalid "
				   "TUN/TAP Backend provided by %s. Check our documentation on setting up the network "
				   "devices.",
				   prefix, vmm_os_error(error.sys_errno, words, sizeof words), net.body.host_dev_name);
	}
	net.arena = action->arena;
	action->arena.first = NULL;
	r->nets[r->net_count++] = net;
	return reply_done(reply);
}

/* What is wrong with a socket's path, whatever is there; NULL: nothing. */
static const char *path_problem(const char *path)
{
	if (!*path) /* to Linux, any abstract address that is free */
		return "path must not be empty";
	return strlen(path) < sizeof((struct sockaddr_un *)0)->sun_path ? NULL : "path must be shorter than SUN_LEN";
}

/* A socket that listens at a path where nothing is yet. */
static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, number;

	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && !bind(fd, (const struct sockaddr *)&address, sizeof address) && !listen(fd, LISTEN_BACKLOG))
		return fd;
	number = errno;
	if (fd >= 0)
		close(fd);
	errno = number;
	return -1;
}

/* The name of the socket that was bound, unless it is something else's by now. */
static void unlink_socket(const struct vmm_vsock *vsock)
{
	struct stat st;

	if (vsock->listener >= 0 && !lstat(vsock->body.uds_path, &st) && S_ISSOCK(st.st_mode) &&
	    st.st_dev == vsock->device && st.st_ino == vsock->inode)
		unlink(vsock->body.uds_path);
}

bool vmm_put_vsock(struct vmm *vmm, struct action *action, struct reply *reply)
{
	static const char prefix[] = "Vsock config error: Cannot create backend for vsock device: Error binding to the "
				     "host-side Unix socket:";
	struct vmm_vsock *kept = &vmm->resources.vsock;
	struct stat st;
	const char *problem;
	char words[160];

	if (kept->set) {
		unlink_socket(kept);
		if (kept->listener >= 0)
			close(kept->listener);
		kept->listener = -1;
		kept->set = false;
		arena_free(&kept->arena);
	}
	problem = path_problem(action->u.vsock.uds_path);
	if (problem)
		return reply_fault(reply, "%s %s", prefix, problem);
	kept->listener = vmm->settings.checks_only ? -1 : listen_at(action->u.vsock.uds_path);
	if (kept->listener < 0 && !vmm->settings.checks_only)
		return reply_fault(reply, "%s %s", prefix, vmm_os_error(errno, words, sizeof words));
	memset(&st, 0, sizeof st);
	(void)!lstat(action->u.vsock.uds_path, &st);
	kept->device = st.st_dev;
	kept->inode = st.st_ino;
	kept->body = action->u.vsock;
	kept->arena = action->arena;
	action->arena.first = NULL;
	kept->set = true;
	return reply_done(reply);
}

/* 169.254.1.0 to 169.254.254.255 */
static bool is_link_local(uint32_t address)
{
	return address >> 16 == 0xa9fe && (address >> 8 & 0xff) != 0 && (address >> 8 & 0xff) != 0xff;
}

static bool is_listed(const struct body_mmds *mmds, const char *id)
{
	const char *const *names = mmds->network_interfaces.items;

	for (size_t i = 0; i < mmds->network_interfaces.count; i++)
		if (!strcmp(names[i], id))
			return true;
	return false;
}

bool vmm_put_mmds_config(struct vmm *vmm, struct action *action, struct reply *reply)
{
	static const char prefix[] = "MMMDS config error:";
	struct vmm_resources *r = &vmm->resources;
	const struct body_mmds *mmds = &action->u.mmds;
	const char *const *names = mmds->network_interfaces.items;

	if (mmds->has_address && !is_link_local(mmds->ipv4_address))
		return reply_fault(reply, "%s The MMDS IPv4 address is not link local.", prefix);
	if (!mmds->network_interfaces.count)
		return reply_fault(reply,
				   "%s The list of network interface IDs that allow forwarding MMDS requests is empty.",
				   prefix);
	for (size_t i = 0; i < mmds->network_interfaces.count; i++)
		if (find_net(r, names[i]) == r->net_count)
			return reply_fault(reply,
					   "%s The list of network interface IDs provided contains at least one ID "
					   "that does not correspond to any existing network interface.",
					   prefix);
	for (unsigned i = 0; i < r->net_count; i++)
		r->nets[i].mmds = is_listed(mmds, r->nets[i].body.iface_id);
	r->mmds.set = true;
	r->mmds.version = mmds->version;
	r->mmds.address = mmds->has_address ? mmds->ipv4_address : MMDS_DEFAULT_ADDRESS;
	r->mmds.imds_compat = mmds->imds_compat;
	return reply_done(reply);
}
