/* SPDX-License-Identifier: Apache-2.0 */
/* The newc cpio archive of a tree: where each byte goes, then the bytes (Documentation/driver-api/early-userspace). */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fail.h"
#include "initramfs/directory.h"

#define HEADER_BYTES 110u
#define TRAILER "TRAILER!!!"
#define INODE_BYTES 1024u /* what a file costs the kernel beyond its content, roughly: inode, directory entry, name */
#define PAGE 4096u

/*
 * A file in the root named like the end-of-archive marker gets a prefix of "./", which every unpacker treats as the
 * same path.
 */
static const char *prefix_of(const struct node *node)
{
	if (!node->parent)
		return ".";
	return !node->parent->parent && !strcmp(node->name, TRAILER) ? "./" : "";
}

static size_t name_bytes(const struct node *node)
{
	return strlen(prefix_of(node)) + node->path_bytes + 1;
}

static uint64_t content_bytes(const struct node *node)
{
	return node->carries ? node->size : 0;
}

static uint64_t padded(uint64_t bytes)
{
	return (bytes + 3) & ~UINT64_C(3);
}

static bool is_linked(const struct node *node)
{
	return S_ISREG(node->mode) && node->source != SOURCE_MEMORY && node->linked;
}

static int compare_files(const void *a, const void *b)
{
	const struct node *x = *(struct node *const *)a, *y = *(struct node *const *)b;

	if (x->device != y->device)
		return x->device < y->device ? -1 : 1;
	if (x->inode != y->inode)
		return x->inode < y->inode ? -1 : 1;
	return (x->number > y->number) - (x->number < y->number);
}

/* Hard links share an inode number; the last one in archive order has the content, as in GNU cpio. */
static void link_names(struct node **files, size_t count)
{
	qsort(files, count, sizeof *files, compare_files);
	for (size_t i = 0, n; i < count; i += n) {
		for (n = 1; i + n < count && files[i + n]->device == files[i]->device &&
			    files[i + n]->inode == files[i]->inode;
		     n++)
			;
		for (size_t j = i; j < i + n; j++) {
			files[j]->number = files[i]->number;
			files[j]->links = (uint32_t)n;
			files[j]->carries = j == i + n - 1;
		}
	}
}

static int number_files(struct initramfs *archive, struct riffle_error *error)
{
	struct node **files = reallocarray(NULL, archive->nodes, sizeof *files);
	uint32_t number = 0;
	size_t count = 0;

	if (!files || archive->nodes > UINT32_MAX) {
		free(files);
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "initramfs", "out of memory for the list of files");
	}
	for (struct node *node = &archive->root; node; node = node_next(node)) {
		node->number = ++number;
		node->links = S_ISDIR(node->mode) ? 2 : 1;
		node->carries = true;
		if (is_linked(node))
			files[count++] = node;
	}
	link_names(files, count);
	free(files);
	return RIFFLE_OK;
}

int initramfs_layout(struct initramfs *archive, uint64_t *bytes, struct riffle_error *error)
{
	uint64_t at = 0;
	int status = number_files(archive, error);

	if (status)
		return status;
	archive->unpacked = 0;
	/* neither sum can wrap: each term is below 2^33, and fewer than 2^31 nodes fit into memory */
	for (struct node *node = &archive->root; node; node = node_next(node)) {
		node->at = at;
		at += padded(HEADER_BYTES + name_bytes(node)) + padded(content_bytes(node));
		archive->unpacked += INODE_BYTES;
		if (S_ISREG(node->mode))
			archive->unpacked += (content_bytes(node) + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	}
	archive->bytes = at + padded(HEADER_BYTES + sizeof TRAILER);
	archive->laid_out = true;
	*bytes = archive->bytes;
	return RIFFLE_OK;
}

uint64_t initramfs_unpacked_bytes(const struct initramfs *archive)
{
	return archive->unpacked;
}

static uint8_t *put_hex(uint8_t *to, uint32_t value)
{
	for (int shift = 28; shift >= 0; shift -= 4)
		*to++ = (uint8_t) "0123456789abcdef"[value >> shift & 15];
	return to;
}

static uint32_t clamp_time(int64_t seconds)
{
	if (seconds < 0)
		return 0;
	return seconds > UINT32_MAX ? UINT32_MAX : (uint32_t)seconds;
}

static uint8_t *write_header(uint8_t *to, const struct node *node, size_t name)
{
	const uint32_t fields[] = {
	    node->number,
	    node->mode,
	    node->uid,
	    node->gid,
	    node->links,
	    clamp_time(node->mtime),
	    (uint32_t)content_bytes(node),
	    0,
	    0, /* containing device: the inode numbers are newly assigned, so one device is enough */
	    node->major,
	    node->minor,
	    (uint32_t)name,
	    0};

	memcpy(to, "070701", 6);
	to += 6;
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
		to = put_hex(to, fields[i]);
	return to;
}

/* ---- contents ---- */

struct packer {
	struct initramfs *archive;
	const struct node *directory; /* the directory of directory_fd */
	int directory_fd;
	struct riffle_error *error;
};

static int fail_node(const struct packer *packer, const struct node *node, int number, const char *call)
{
	blame_node(packer->archive, node);
	return riffle_fail_system(packer->error, number, call, "failed");
}

static int fail_changed(const struct packer *packer, const struct node *node, const char *problem, uint64_t found)
{
	blame_node(packer->archive, node);
	return riffle_fail_expected(packer->error, RIFFLE_ERR_CHANGED, "size", problem, found, node->size);
}

static int open_content(struct packer *packer, const struct node *node)
{
	const int flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;

	if (node->source == SOURCE_HOST)
		return open(node->data, flags);
	if (packer->directory != node->parent) {
		if (packer->directory_fd >= 0)
			close(packer->directory_fd);
		packer->directory = NULL;
		packer->directory_fd = directory_open(packer->archive, node->parent);
		if (packer->directory_fd < 0)
			return -1;
		packer->directory = node->parent;
	}
	return openat(packer->directory_fd, node->name, flags);
}

/* Checks that this is still the file that was collected. */
static int check_file(const struct packer *packer, const struct node *node, int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return fail_node(packer, node, errno, "stat");
	if (st.st_dev != node->device || st.st_ino != node->inode || !S_ISREG(st.st_mode)) {
		blame_node(packer->archive, node);
		return riffle_fail(packer->error, RIFFLE_ERR_CHANGED, "file", "was replaced while it was packed");
	}
	if ((uint64_t)st.st_size != node->size)
		return fail_changed(packer, node, "changed while the file was packed", (uint64_t)st.st_size);
	return RIFFLE_OK;
}

static int read_run(const struct packer *packer, const struct node *node, int fd, uint8_t *to, uint64_t from,
		    uint64_t end)
{
	while (from < end) {
		ssize_t n = pread(fd, to + from, end - from, (off_t)from);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail_node(packer, node, errno, "read");
		if (!n)
			return fail_changed(packer, node, "changed while the file was packed", from);
		from += (uint64_t)n;
	}
	return RIFFLE_OK;
}

/* Reads a file's data, skipping holes, which are already zero; reads everything if holes cannot be found. */
static int read_sparse(const struct packer *packer, const struct node *node, int fd, uint8_t *to)
{
	uint64_t at = 0;
	int status = RIFFLE_OK;

	while (at < node->size && !status) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO)
			return RIFFLE_OK;
		hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
		if (hole <= data || (uint64_t)data < at)
			return read_run(packer, node, fd, to, at, node->size);
		if ((uint64_t)data >= node->size)
			return RIFFLE_OK;
		if ((uint64_t)hole > node->size)
			hole = (off_t)node->size;
		status = read_run(packer, node, fd, to, (uint64_t)data, (uint64_t)hole);
		at = (uint64_t)hole;
	}
	return status;
}

static int write_file(struct packer *packer, const struct node *node, uint8_t *to)
{
	int status, fd = open_content(packer, node);

	if (fd < 0)
		return fail_node(packer, node, errno, "open");
	status = check_file(packer, node, fd);
	if (!status)
		status =
		    node->sparse ? read_sparse(packer, node, fd, to) : read_run(packer, node, fd, to, 0, node->size);
	if (!status)
		status = check_file(packer, node, fd);
	close(fd);
	return status;
}

static int write_node(struct packer *packer, const struct node *node, uint8_t *archive)
{
	size_t name = name_bytes(node);
	uint8_t *start = archive + node->at, *to = write_header(start, node, name);
	const char *prefix = prefix_of(node);

	memcpy(to, prefix, strlen(prefix));
	node_path(node, (char *)to + strlen(prefix));
	to = start + padded(HEADER_BYTES + name);
	if (!content_bytes(node))
		return RIFFLE_OK;
	if (S_ISREG(node->mode) && node->source != SOURCE_MEMORY)
		return write_file(packer, node, to);
	memcpy(to, node->data, node->size);
	return RIFFLE_OK;
}

int initramfs_write(struct initramfs *archive, void *to, struct riffle_error *error)
{
	struct packer packer = {.archive = archive, .directory_fd = -1, .error = error};
	const struct node trailer = {.links = 1};
	int status = RIFFLE_OK;
	uint8_t *end;

	if (!archive->laid_out)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "initramfs", "has no layout yet");
	archive->blame[0] = '\0';
	for (const struct node *node = &archive->root; node && !status; node = node_next(node))
		status = write_node(&packer, node, to);
	if (packer.directory_fd >= 0)
		close(packer.directory_fd);
	if (status)
		return status;
	end = write_header((uint8_t *)to + archive->bytes - padded(HEADER_BYTES + sizeof TRAILER), &trailer,
			   sizeof TRAILER);
	memcpy(end, TRAILER, sizeof TRAILER);
	return RIFFLE_OK;
}
