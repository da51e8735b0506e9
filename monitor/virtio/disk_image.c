/* SPDX-License-Identifier: Apache-2.0 */
/* A raw disk image or block device: opened, recognised, locked, measured. */
#include "monitor/virtio/disk_image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fail.h"

#define SECTOR 512u
#define PROBE_BYTES 4096u
#define LOCK_ATTEMPTS 10u
#define LOCK_PAUSE_US 20000u

/* What the formats that users have lying about begin with. Text of VMware's descriptors is a format as well. */
static const struct format {
	uint32_t offset;
	uint32_t bytes;
	const char *magic;
	const char *problem;
} formats[] = {
    {0, 4, "QFI\xfb", "is a qcow2 image; convert it: qemu-img convert -O raw IMAGE IMAGE.raw"},
    {0, 4, "QED\0", "is a QED image; convert it: qemu-img convert -O raw IMAGE IMAGE.raw"},
    {0, 4, "KDMV", "is a VMDK image; convert it: qemu-img convert -O raw IMAGE IMAGE.raw"},
    {0, 4, "COWD", "is a VMDK image; convert it: qemu-img convert -O raw IMAGE IMAGE.raw"},
    {0, 21, "# Disk DescriptorFile", "describes a VMDK image; convert it: qemu-img convert -O raw IMAGE IMAGE.raw"},
    {64, 4, "\x7f\x10\xda\xbe", "is a VDI image; convert it: qemu-img convert -O raw IMAGE IMAGE.raw"},
    {0, 8, "vhdxfile", "is a VHDX image; convert it: qemu-img convert -O raw IMAGE IMAGE.raw"},
    {0, 8, "conectix", "is a VHD image; convert it: qemu-img convert -f vpc -O raw IMAGE IMAGE.raw"},
    {0, 16, "WithoutFreeSpace", "is a Parallels image; convert it: qemu-img convert -O raw IMAGE IMAGE.raw"},
    {0, 16, "WithouFreSpacExt", "is a Parallels image; convert it: qemu-img convert -O raw IMAGE IMAGE.raw"},
    {0, 22, "Bochs Virtual HD Image", "is a Bochs image; convert it: qemu-img convert -O raw IMAGE IMAGE.raw"},
};

const char *disk_image_format(const uint8_t *start, uint64_t start_bytes, const uint8_t *last_sector)
{
	for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
		if (riffle_inside(formats[i].offset, formats[i].bytes, start_bytes) &&
		    !memcmp(start + formats[i].offset, formats[i].magic, formats[i].bytes))
			return formats[i].problem;
	/* a VHD of fixed size is raw but for its last sector */
	if (last_sector && !memcmp(last_sector, "conectix", 8))
		return "is a VHD image; convert it: qemu-img convert -f vpc -O raw IMAGE IMAGE.raw";
	return NULL;
}

static int refuse_formats(const struct disk_image *image, struct riffle_error *error)
{
	_Alignas(PROBE_BYTES) uint8_t start[PROBE_BYTES];
	_Alignas(PROBE_BYTES) uint8_t last[PROBE_BYTES];
	ssize_t got = pread(image->fd, start, sizeof start, 0);

	if (got < 0)
		return riffle_fail_system(error, errno, "disk image", "cannot be read");
	uint64_t block = image->bytes & ~(uint64_t)(PROBE_BYTES - 1);
	uint64_t last_at = image->bytes - SECTOR;
	const uint8_t *last_sector = NULL;

	if (block > last_at)
		block -= PROBE_BYTES;
	if (pread(image->fd, last, sizeof last, (off_t)block) >= (ssize_t)(last_at - block + SECTOR))
		last_sector = last + (last_at - block);
	const char *problem = disk_image_format(start, (uint64_t)got, last_sector);

	return problem ? riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "disk image", problem) : 0;
}

int disk_image_measure(struct disk_image *image, struct riffle_error *error)
{
	struct stat st;
	uint64_t bytes;

	if (fstat(image->fd, &st))
		return riffle_fail_system(error, errno, "disk image", "cannot be examined");
	if (S_ISBLK(st.st_mode)) {
		if (ioctl(image->fd, BLKGETSIZE64, &bytes))
			return riffle_fail_system(error, errno, "disk image", "does not tell its size");
	} else if (S_ISREG(st.st_mode)) {
		bytes = (uint64_t)st.st_size;
	} else {
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "disk image", "is neither a file nor a block device");
	}
	if (bytes < SECTOR)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "disk image", "is smaller than a sector", bytes,
					    SECTOR);
	image->bytes = bytes & ~(uint64_t)(SECTOR - 1);
	image->identity[0] = st.st_dev;
	image->identity[1] = st.st_rdev;
	image->identity[2] = st.st_ino;
	image->device = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
	image->inode = S_ISBLK(st.st_mode) ? 0 : st.st_ino;
	return 0;
}

/* The end of a run that was killed may be a moment away: io_uring lets go of files after its process is gone. */
static int try_lock(const struct disk_image *image, bool patient)
{
	struct flock whole = {.l_type = image->read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};

	for (unsigned attempt = 0;; attempt++) {
		if (fcntl(image->fd, F_OFD_SETLK, &whole) == 0)
			return 0;
		if ((errno != EAGAIN && errno != EACCES) || !patient || attempt == LOCK_ATTEMPTS)
			return errno;
		usleep(LOCK_PAUSE_US);
	}
}

static int lock(const struct disk_image *image, bool patient, struct riffle_error *error)
{
	switch (try_lock(image, patient)) {
	case 0:
	case ENOLCK: /* file systems without locks */
	case EOPNOTSUPP:
	case EINVAL:
	case ENOSYS:
		return 0;
	case EAGAIN:
	case EACCES:
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "disk image",
				   "is in use by another microVM or program, which holds a lock on it");
	default:
		return riffle_fail_system(error, errno, "disk image", "cannot be locked");
	}
}

/* What O_DIRECT wants here is found by trying: a read that is not aligned enough is refused. */
static void find_alignment(struct disk_image *image)
{
	_Alignas(PROBE_BYTES) uint8_t buffer[2 * PROBE_BYTES];

	for (uint32_t alignment = SECTOR; alignment < PROBE_BYTES; alignment *= 2)
		if (pread(image->fd, buffer + alignment, alignment, alignment) >= 0 || errno != EINVAL) {
			image->alignment = alignment;
			return;
		}
	image->alignment = PROBE_BYTES;
}

static int set_direct(struct disk_image *image, struct riffle_error *error)
{
	int flags = fcntl(image->fd, F_GETFL);

	/* opened without blocking on a FIFO; O_NONBLOCK on the file itself would have io_uring give up early */
	flags &= ~O_NONBLOCK;
	if (image->cache == DISK_CACHE_NONE && !image->in_memory)
		flags |= O_DIRECT;
	if (fcntl(image->fd, F_SETFL, flags) < 0) {
		if (errno == EINVAL)
			return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "cache=none",
					   "the file system has no O_DIRECT; cache=writeback works everywhere");
		return riffle_fail_system(error, errno, "disk image", "cannot be set to O_DIRECT");
	}
	if (flags & O_DIRECT)
		find_alignment(image);
	return 0;
}

static void choose_block_size(struct disk_image *image)
{
	int sector = 0;

	image->block_bytes = SECTOR;
	if (ioctl(image->fd, BLKSSZGET, &sector) == 0 && sector > (int)SECTOR && sector <= (int)PROBE_BYTES)
		image->block_bytes = (uint32_t)sector;
	if (image->alignment > image->block_bytes)
		image->block_bytes = image->alignment;
}

static int examine(struct disk_image *image, const struct disk_image_options *options, struct riffle_error *error)
{
	struct statfs fs;
	int status = disk_image_measure(image, error);

	if (!status && !options->shared)
		status = lock(image, options->patient, error);
	if (!status && !options->raw)
		status = refuse_formats(image, error);
	if (status)
		return status;
	image->in_memory =
	    image->inode && fstatfs(image->fd, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
	status = set_direct(image, error);
	if (!status)
		choose_block_size(image);
	return status;
}

int disk_image_open(struct disk_image *image, const char *path, const struct disk_image_options *options,
		    struct riffle_error *error)
{
	*image = (struct disk_image){.read_only = options->read_only, .cache = options->cache, .alignment = 1};
	image->fd = open(path, (options->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (image->fd < 0)
		return riffle_fail_system(error, errno, "disk image",
					  (errno == EACCES || errno == EROFS) && !options->read_only
					      ? "cannot be opened for writing; `ro` opens it read-only"
					      : "cannot be opened");
	int status = examine(image, options, error);

	if (status)
		disk_image_close(image);
	return status;
}

int disk_image_adopt(struct disk_image *image, int fd, const struct disk_image_options *options,
		     struct riffle_error *error)
{
	*image = (struct disk_image){.read_only = options->read_only, .cache = options->cache, .alignment = 1};
	image->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (image->fd < 0)
		return riffle_fail_system(error, errno, "disk image", "is no open descriptor");
	int flags = fcntl(fd, F_GETFL), status;

	if ((flags & O_PATH) || (flags & O_ACCMODE) == O_WRONLY ||
	    (!options->read_only && (flags & O_ACCMODE) != O_RDWR))
		status = riffle_fail(error, RIFFLE_ERR_ARGUMENT, "disk image",
				     options->read_only ? "its descriptor is not open for reading"
							: "its descriptor is not open for reading and writing");
	else
		status = examine(image, options, error);
	if (status)
		disk_image_close(image);
	return status;
}

bool disk_image_is(const struct disk_image *image, const char *path)
{
	struct stat st;

	if (image->fd < 0 || stat(path, &st))
		return false;
	if (S_ISBLK(st.st_mode))
		return !image->inode && st.st_rdev == image->device;
	return st.st_dev == image->device && st.st_ino == image->inode;
}

void disk_image_close(struct disk_image *image)
{
	struct flock whole = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

	if (image->fd < 0)
		return;
	fcntl(image->fd, F_OFD_SETLK, &whole); /* now, even if io_uring still holds the file */
	close(image->fd);
	image->fd = -1;
}
