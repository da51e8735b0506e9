/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the shared libraries of a program as its dynamic loader would, without running either. */
#include "initramfs/libraries.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fail.h"
#include "initramfs/tree.h"

#define CACHE_FILE "/etc/ld.so.cache"
#define CACHE_MAGIC "glibc-ld.so.cache1.1"
#define CACHE_OLD_MAGIC "ld.so-1.7.0"
#define CACHE_HEADER 48u
#define CACHE_ENTRY 24u
#define CACHE_MAX (64u << 20)
#define CACHE_X86_64 0x0303u /* a glibc library for x86-64: FLAG_ELF_LIBC6 | FLAG_X8664_LIB64 */
#define LIBRARIES_MAX 4096u

/* Built into the loaders: Debian's multiarch directories, lib64 for Fedora and Arch. */
static const char glibc_directories[] =
    "/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu:/lib64:/usr/lib64:/lib:/usr/lib";
static const char musl_directories[] = "/lib:/usr/local/lib:/usr/lib";

static bool is_library(const char *path)
{
	struct elf_needs needs;
	struct riffle_error error;
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	bool is = fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) && !elf_read_needs(&needs, fd, &error);

	if (is)
		elf_free_needs(&needs);
	if (fd >= 0)
		close(fd);
	return is;
}

/* Replaces $ORIGIN, $LIB and $PLATFORM, with or without braces; false if the result does not fit. */
static bool expand(const char *from, size_t bytes, const char *object, char *to, size_t room)
{
	static const struct {
		const char *name, *value;
	} tokens[] = {{"{ORIGIN}", NULL},
		      {"ORIGIN", NULL},
		      {"{LIB}", "lib/x86_64-linux-gnu"},
		      {"LIB", "lib/x86_64-linux-gnu"},
		      {"{PLATFORM}", "x86_64"},
		      {"PLATFORM", "x86_64"}};
	const char *slash = strrchr(object, '/');
	size_t used = 0;

	for (size_t i = 0; i < bytes;) {
		const char *piece = from + i;
		size_t length = 1, skip = 1;

		for (size_t t = 0; from[i] == '$' && t < sizeof tokens / sizeof *tokens; t++) {
			size_t n = strlen(tokens[t].name);

			if (n > bytes - i - 1 || memcmp(from + i + 1, tokens[t].name, n))
				continue;
			piece = tokens[t].value ? tokens[t].value : object;
			length = tokens[t].value ? strlen(piece) : (size_t)(slash - object);
			skip = n + 1;
			break;
		}
		if (length >= room - used)
			return false;
		memcpy(to + used, piece, length);
		used += length;
		i += skip;
	}
	to[used] = '\0';
	return true;
}

/* Searches the directories of a colon-separated list until one has the library. */
static bool look_in(const char *list, const char *object, const char *name, library_found *found, void *opaque)
{
	while (list && *list) {
		size_t bytes = strcspn(list, ":");
		char path[PATH_MAX];
		size_t used;

		if (expand(list, bytes, object, path, sizeof path) && path[0] == '/') {
			used = strlen(path);
			if ((size_t)snprintf(path + used, sizeof path - used, "/%s", name) < sizeof path - used &&
			    is_library(path)) {
				found(opaque, path);
				return true;
			}
		}
		list += bytes + (list[bytes] == ':');
	}
	return false;
}

/* A string in the cache, or NULL; offsets are relative to the cache's header. */
static const char *cache_string(const uint8_t *cache, size_t bytes, uint32_t at)
{
	return at < bytes && memchr(cache + at, 0, bytes - at) ? (const char *)cache + at : NULL;
}

/*
 * glibc's sysdeps/generic/dl-cache.h: after an obsolete cache that may come first, a header, entries {flags, key,
 * value, osversion, hwcap}, strings. A key may have several entries, one per processor level.
 */
static bool look_in_cache(const struct library_places *places, const char *name, library_found *found, void *opaque)
{
	const uint8_t *cache = places->cache;
	size_t bytes = places->cache_bytes, skip;
	bool any = false;
	uint32_t count;

	if (cache && bytes >= 16 && !memcmp(cache, CACHE_OLD_MAGIC, strlen(CACHE_OLD_MAGIC))) {
		skip = 16 + (size_t)riffle_get32(cache + 12) * 12;
		skip = (skip + 7) & ~(size_t)7;
		if (skip > bytes)
			return false;
		cache += skip;
		bytes -= skip;
	}
	if (!cache || bytes < CACHE_HEADER || memcmp(cache, CACHE_MAGIC, strlen(CACHE_MAGIC)))
		return false;
	count = riffle_get32(cache + 20);
	if (count > (bytes - CACHE_HEADER) / CACHE_ENTRY)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *entry = cache + CACHE_HEADER + (size_t)i * CACHE_ENTRY;
		const char *key = cache_string(cache, bytes, riffle_get32(entry + 4));
		const char *path = cache_string(cache, bytes, riffle_get32(entry + 8));

		if (riffle_get32(entry) != CACHE_X86_64 || !key || !path || strcmp(key, name) || path[0] != '/' ||
		    !is_library(path))
			continue;
		found(opaque, path);
		any = true;
	}
	return any;
}

bool library_find(const struct library_places *places, const struct library_user *user, const char *name,
		  library_found *found, void *opaque)
{
	bool done = false;

	if (strchr(name, '/')) {
		done = name[0] == '/' && is_library(name);
		if (done)
			found(opaque, name);
		return done;
	}
	/* without DT_RUNPATH, DT_RPATH of this object and of its loaders applies (ld.so(8)) */
	if (!user->needs.runpath)
		for (const struct library_user *u = user; u && !done; u = u->loader)
			if (!u->needs.runpath)
				done = look_in(u->needs.rpath, u->path, name, found, opaque);
	if (!done)
		done = look_in(user->needs.runpath, user->path, name, found, opaque);
	if (!done && !user->needs.no_default)
		done = look_in_cache(places, name, found, opaque) ||
		       look_in(places->directories, "/", name, found, opaque);
	return done;
}

/* ---- all libraries of a program ---- */

struct loaded {
	struct library_user user;
	char *name; /* the name it was requested by */
	char *path;
	struct loaded *next;
};

struct collection {
	struct initramfs *archive;
	struct library_places places;
	struct loaded *first, **end;
	unsigned count;
	const char *name;                /* the library to find, */
	const struct library_user *user; /* needed by this object */
	bool found;
	int status; /* of adding the library found */
	struct riffle_error *error;
};

/* Adds an ELF file; its own needs are processed later. */
static int take(struct collection *c, const char *path, const char *name, const struct library_user *loader)
{
	struct loaded *loaded;
	char *real = realpath(path, NULL);
	int status, fd = real ? open(real, O_RDONLY | O_CLOEXEC) : -1;

	blame_name(c->archive, path);
	if (fd < 0) {
		status = riffle_fail_system(c->error, errno, "open", "failed");
		free(real);
		return status;
	}
	loaded = calloc(1, sizeof *loaded);
	status = loaded ? elf_read_needs(&loaded->user.needs, fd, c->error)
			: riffle_fail(c->error, RIFFLE_ERR_MEMORY, "libraries", "out of memory");
	close(fd);
	if (status) {
		free(real);
		free(loaded);
		return status;
	}
	loaded->user.loader = loader;
	loaded->user.path = loaded->path = real;
	loaded->name = strdup(name);
	*c->end = loaded;
	c->end = &loaded->next;
	c->count++;
	if (!loaded->name || c->count > LIBRARIES_MAX)
		return riffle_fail(c->error, RIFFLE_ERR_MEMORY, "libraries", "out of memory");
	return initramfs_add_host_file(c->archive, path, c->error);
}

/*
 * All matching cache entries are added, because the guest's processor determines which one is used. Elsewhere the first
 * match ends the search.
 */
static void take_found(void *opaque, const char *path)
{
	struct collection *c = opaque;

	if (c->status)
		return;
	c->status = c->found ? initramfs_add_host_file(c->archive, path, c->error) : take(c, path, c->name, c->user);
	c->found = true;
}

static bool known(const struct collection *c, const char *name)
{
	for (const struct loaded *l = c->first; l; l = l->next)
		if (!strcmp(l->name, name))
			return true;
	return false;
}

static int take_needs(struct collection *c, const struct library_user *user)
{
	c->status = RIFFLE_OK;
	for (size_t i = 0; i < user->needs.count && !c->status; i++) {
		c->name = user->needs.needed[i];
		c->user = user;
		c->found = false;
		if (known(c, c->name))
			continue;
		if (!library_find(&c->places, user, c->name, take_found, c)) {
			blame_name(c->archive, c->name);
			c->status = riffle_fail(c->error, RIFFLE_ERR_UNSUPPORTED, "library",
						"is needed by the program, but its loader would not find it");
		}
	}
	return c->status;
}

static void *map_cache(size_t *bytes)
{
	int fd = open(CACHE_FILE, O_RDONLY | O_CLOEXEC);
	uint8_t *cache = NULL;
	struct stat st;
	ssize_t n = 0;

	*bytes = 0;
	if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size > 0 && st.st_size < CACHE_MAX &&
	    (cache = malloc((size_t)st.st_size)))
		while (*bytes < (size_t)st.st_size && (n = read(fd, cache + *bytes, (size_t)st.st_size - *bytes)) > 0)
			*bytes += (size_t)n;
	if (fd >= 0)
		close(fd);
	return cache;
}

static int take_loader(struct collection *c, const struct elf_needs *needs)
{
	int status;

	if (!needs->interpreter)
		return RIFFLE_OK;
	status = initramfs_add_host_file(c->archive, needs->interpreter, c->error);
	if (!status && c->places.cache)
		status = initramfs_add_host_file(c->archive, CACHE_FILE, c->error);
	return status;
}

int libraries_add(struct initramfs *archive, const char *path, struct riffle_error *error)
{
	struct collection c = {.archive = archive, .end = &c.first, .error = error};
	void *cache = NULL;
	int status = take(&c, path, path, NULL);

	if (!status) {
		const char *interpreter = c.first->user.needs.interpreter;

		if (interpreter && strstr(interpreter, "/ld-musl-")) {
			c.places.directories = musl_directories;
		} else {
			c.places.cache = cache = map_cache(&c.places.cache_bytes);
			c.places.directories = glibc_directories;
		}
		status = take_loader(&c, &c.first->user.needs);
	}
	/* the list grows at its end during the walk */
	for (struct loaded *l = c.first; l && !status; l = l->next)
		status = take_needs(&c, &l->user);
	if (!status)
		archive->blame[0] = '\0';
	while (c.first) {
		struct loaded *next = c.first->next;

		elf_free_needs(&c.first->user.needs);
		free(c.first->name);
		free(c.first->path);
		free(c.first);
		c.first = next;
	}
	free(cache);
	return status;
}
