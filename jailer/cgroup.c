/* SPDX-License-Identifier: Apache-2.0 */
/* Puts the jailer, and so the program it runs, into its own cgroups, of version 1 or 2. */
#include "jailer/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "jailer/below.h"

#define LINE_MAX_BYTES 4096

/* The part of FILE=VALUE before the first dot; arguments.c has checked the form. */
static int controller_of(const char *setting, char controller[32], struct failure *failure)
{
	size_t length = strcspn(setting, ".=");

	if (setting[length] != '.' || length >= 32)
		return fail(failure, "Cgroup invalid file: %s", setting);
	memcpy(controller, setting, length);
	controller[length] = 0;
	return 0;
}

static int setting_of(const char *setting, char file[NAME_MAX + 1], const char **value)
{
	size_t length = strcspn(setting, "=");

	memcpy(file, setting, length);
	file[length] = 0;
	*value = setting + length + 1;
	return 0;
}

/* Whether a word is in a list such as "rw,cpu,cpuacct" or "cpu io memory". */
static bool has_word(const char *list, const char *word, const char *separators)
{
	size_t length = strlen(word);

	for (;;) {
		size_t bytes = strcspn(list, separators);

		if (bytes == length && !memcmp(list, word, bytes))
			return true;
		if (!list[bytes])
			return false;
		list += bytes + 1;
	}
}

/* Finds the mount point of this controller's hierarchy (NULL: the unified one). 1: found, 0: none. */
static int find_mount(const char *mounts, const char *controller, char mount[PATH_MAX], bool *any)
{
	FILE *table = setmntent(mounts, "re");
	char text[2 * PATH_MAX];
	struct mntent entry;
	int found = 0;

	*any = false;
	if (!table)
		return -1;
	while (!found && getmntent_r(table, &entry, text, sizeof text)) {
		bool unified = !strcmp(entry.mnt_type, "cgroup2");

		if (unified != !controller || (!unified && strcmp(entry.mnt_type, "cgroup")))
			continue;
		*any = true;
		if (controller && !has_word(entry.mnt_opts, controller, ","))
			continue;
		if (strlen(entry.mnt_dir) < PATH_MAX) {
			strcpy(mount, entry.mnt_dir);
			found = 1;
		}
	}
	endmntent(table);
	return found;
}

static int open_hierarchy(struct cgroups *cgroups, const char *mounts, const char *controller, bool unified,
			  struct failure *failure)
{
	struct cgroup *cgroup = &cgroups->list[cgroups->count];
	bool any;
	int found;

	if (cgroups->count == sizeof cgroups->list / sizeof *cgroups->list)
		return fail(failure, "Too many different cgroup controllers");
	found = find_mount(mounts, unified ? NULL : controller, cgroup->mount, &any);
	if (found < 0)
		return fail_system(failure, errno, "Failed to open file %s", mounts);
	if (!any)
		return fail(failure, "Hierarchy not found: No hierarchy found for this cgroup version.");
	if (!found)
		return fail(failure, "Controller %s is unavailable", controller);
	cgroup->root = open(cgroup->mount, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (cgroup->root < 0)
		return fail_system(failure, errno, "Failed to open file %s", cgroup->mount);
	snprintf(cgroup->controller, sizeof cgroup->controller, "%s", controller);
	cgroups->count++;
	return 0;
}

static struct cgroup *hierarchy_of(struct cgroups *cgroups, const char *controller, bool unified)
{
	for (size_t i = 0; i < cgroups->count; i++)
		if (unified || !strcmp(cgroups->list[i].controller, controller))
			return &cgroups->list[i];
	return NULL;
}

static int find_for(struct cgroups *cgroups, const struct arguments *arguments, const char *mounts, const char *setting,
		    struct failure *failure)
{
	const bool unified = arguments->cgroup_version == 2;
	char controller[32], available[LINE_MAX_BYTES] = "";

	if (controller_of(setting, controller, failure))
		return -1;
	if (!hierarchy_of(cgroups, controller, unified) &&
	    open_hierarchy(cgroups, mounts, controller, unified, failure))
		return -1;
	if (!unified)
		return 0;
	(void)below_read_line(cgroups->list[0].root, "cgroup.controllers", available, sizeof available);
	if (!has_word(available, controller, " "))
		return fail(failure, "Controller %s is unavailable", controller);
	return 0;
}

static int attach(int directory, const char *file, const char *shown, struct failure *failure)
{
	char pid[24];

	snprintf(pid, sizeof pid, "%d\n", getpid());
	if (below_write(directory, file, pid))
		return fail_system(failure, errno, "Failed to write to %s/%s", shown, file);
	return 0;
}

static int join_parent(const struct cgroup *unified, const char *parent, struct failure *failure)
{
	int status, fd = below_open(unified->root, parent, O_PATH | O_DIRECTORY, 0);

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return fail_system(failure, errno, "Failed to open file %s/%s", unified->mount, parent);
	status = attach(fd, "cgroup.procs", parent, failure);
	close(fd);
	return status;
}

int cgroups_find(struct cgroups *cgroups, const struct arguments *arguments, const char *mounts,
		 struct failure *failure)
{
	cgroups->count = 0;
	for (size_t i = 0; i < arguments->cgroup_count; i++)
		if (find_for(cgroups, arguments, mounts, arguments->cgroups[i], failure))
			return -1;
	if (arguments->cgroup_count || arguments->cgroup_version != 2)
		return 0;
	if (open_hierarchy(cgroups, mounts, "", true, failure))
		return -1;
	return join_parent(&cgroups->list[0], arguments->parent_cgroup, failure);
}

/* "a/b/c" up to its component number `depth`: "", "a", "a/b", "a/b/c". */
static void cut(char shortened[PATH_MAX], const char *path, unsigned depth)
{
	const char *end = path;

	while (depth-- && *end)
		end += strcspn(end + (*end == '/'), "/") + (*end == '/');
	memcpy(shortened, path, (size_t)(end - path));
	shortened[end - path] = 0;
}

static unsigned depth_of(const char *path)
{
	unsigned depth = 1;

	for (; *path; path++)
		depth += *path == '/';
	return depth;
}

/* Version 1: a file such as cpuset.mems is empty in a new cgroup, and must be set before that of a child is. */
static int inherit(const struct cgroup *cgroup, const char *path, const char *file, struct failure *failure)
{
	char line[LINE_MAX_BYTES] = "", at[PATH_MAX], name[PATH_MAX + NAME_MAX + 2];
	unsigned depth = depth_of(path), full;

	snprintf(name, sizeof name, "%s/%s", path, file);
	if (below_read_line(cgroup->root, name, line, sizeof line))
		return fail_system(failure, errno, "Failed to read file %s/%s into a string", cgroup->mount, name);
	if (*line)
		return 0;
	for (full = depth; full > 0; full--) {
		cut(at, path, full - 1);
		snprintf(name, sizeof name, "%s%s%s", at, *at ? "/" : "", file);
		if (below_read_line(cgroup->root, name, line, sizeof line))
			return fail_system(failure, errno, "Failed to read file %s/%s into a string", cgroup->mount,
					   name);
		if (*line)
			break;
	}
	if (!full)
		return fail(failure, "Failed to inherit cgroups configurations from file %s in path %s/%s", file,
			    cgroup->mount, path);
	for (; full <= depth; full++) {
		cut(at, path, full);
		snprintf(name, sizeof name, "%s/%s", at, file);
		/* a concurrent start may write it too; only the last level matters */
		if (below_write(cgroup->root, name, line) && full == depth)
			return fail_system(failure, errno, "Failed to write to %s/%s", cgroup->mount, name);
	}
	return 0;
}

/* Version 2: each ancestor must enable the controllers that a cgroup is to use. */
static int enable(const struct cgroup *cgroup, const char *path, const char *controller, struct failure *failure)
{
	unsigned depth = depth_of(path);
	char text[40];

	snprintf(text, sizeof text, "+%s\n", controller);
	for (unsigned i = 0; i < depth; i++) {
		char at[PATH_MAX], name[PATH_MAX + 32];

		cut(at, path, i);
		snprintf(name, sizeof name, "%s%scgroup.subtree_control", at, *at ? "/" : "");
		if (below_write(cgroup->root, name, text))
			return fail_system(failure, errno, "Failed to write to %s/%s", cgroup->mount, name);
	}
	return 0;
}

static int set(struct cgroups *cgroups, const struct arguments *arguments, const char *setting, const char *path,
	       struct undo *undo, struct failure *failure)
{
	const bool unified = arguments->cgroup_version == 2;
	char controller[32], file[NAME_MAX + 1], text[LINE_MAX_BYTES];
	const struct cgroup *cgroup;
	const char *value;
	int status, fd;

	if (controller_of(setting, controller, failure) || setting_of(setting, file, &value))
		return -1;
	if (strlen(value) + 2 > sizeof text)
		return fail(failure, "Invalid format for cgroups: the value of %s is too long", file);
	cgroup = hierarchy_of(cgroups, controller, unified);
	fd = below_make_directory(cgroup->root, path, 0777, undo);
	if (fd < 0)
		return fail_system(failure, errno, "Failed to create directory %s/%s", cgroup->mount, path);
	status = unified ? enable(cgroup, path, controller, failure) : inherit(cgroup, path, file, failure);
	snprintf(text, sizeof text, "%s\n", value);
	if (!status && below_write(fd, file, text))
		status = fail_system(failure, errno, "Failed to write to %s/%s/%s", cgroup->mount, path, file);
	close(fd);
	return status;
}

int cgroups_enter(struct cgroups *cgroups, const struct arguments *arguments, struct undo *undo,
		  struct failure *failure)
{
	const char *procs = arguments->cgroup_version == 2 ? "cgroup.procs" : "tasks";
	char path[PATH_MAX], shown[2 * PATH_MAX];
	int status = 0;

	if (!arguments->cgroup_count)
		return 0;
	if (snprintf(path, sizeof path, "%s/%s", arguments->parent_cgroup, arguments->id) >= PATH_MAX)
		return fail(failure, "Parent cgroup path is invalid. It is too long");
	/* all values first: a cpuset accepts no process until it has both processors and memory */
	for (size_t i = 0; !status && i < arguments->cgroup_count; i++)
		status = set(cgroups, arguments, arguments->cgroups[i], path, undo, failure);
	for (size_t i = 0; !status && i < cgroups->count; i++) {
		int fd = below_open(cgroups->list[i].root, path, O_PATH | O_DIRECTORY, 0);

		snprintf(shown, sizeof shown, "%s/%s", cgroups->list[i].mount, path);
		if (fd < 0)
			return fail_system(failure, errno, "Failed to open file %s", shown);
		status = attach(fd, procs, shown, failure);
		close(fd);
	}
	return status;
}
