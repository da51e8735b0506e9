/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's description out of a configuration file, for `riffle run --config`. */
#include "cli/commands/run_config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/config_file.h"
#include "api/log.h"
#include "api/metrics.h"
#include "api/watch.h"
#include "host/input.h"
#include "host/shown.h"

#define FILE_MAX (16u << 20)

/* What the description points to, for good. */
static struct vmm *vmm;

static void wrong(const char *path, const char *problem)
{
	fprintf(stderr, "riffle: %s: --config: %s\n", SHOWN(path), SHOWN(problem));
}

static bool read_all(int fd, char *text, size_t *bytes)
{
	ssize_t got;

	for (*bytes = 0; *bytes <= FILE_MAX; *bytes += (size_t)got) {
		got = read(fd, text + *bytes, FILE_MAX + 1 - *bytes);
		if (got < 0 && errno == EINTR)
			got = 0;
		else if (got <= 0)
			return got == 0;
	}
	errno = EFBIG;
	return false;
}

char *run_config_read(const char *path, size_t *bytes)
{
	int fd = input_open_text(path);
	char *text = fd < 0 ? NULL : malloc(FILE_MAX + 2); /* of which only what the file fills is touched */

	if (!text || !read_all(fd, text, bytes)) {
		fprintf(stderr, "riffle: %s: cannot be read: %s\n", SHOWN(path), input_open_problem(errno));
		free(text);
		text = NULL;
	}
	if (fd >= 0)
		close(fd);
	if (text && memchr(text, 0, *bytes)) {
		fprintf(stderr, "riffle: %s: is no text: it has zero bytes\n", SHOWN(path));
		free(text);
		text = NULL;
	}
	if (text)
		text[*bytes] = 0;
	return text;
}

/* The words of a fault, out of its JSON. */
static void wrong_reply(const char *path, struct reply *reply)
{
	const char *text = reply->body ? reply->body : "out of memory";

	wrong(path, text);
	reply_free(reply);
}

bool run_config_apply(struct machine_config *config, const char *path)
{
	const struct vmm_settings settings = {.id = "riffle", .mmds_size_limit = FIRECRACKER_PAYLOAD_MAX};
	const struct log_settings quiet = {.level = LOG_OFF, .show_level = -1, .show_origin = -1};
	struct reply reply = {0};
	char problem[2048];
	size_t bytes;
	char *text = run_config_read(path, &bytes);
	bool good;

	if (!text)
		return false;
	log_configure(&quiet, NULL); /* until the file asks for a log */
	watch_start();
	vmm = calloc(1, sizeof *vmm);
	good = vmm != NULL;
	if (good) {
		vmm_init(vmm, &settings);
		good = config_file_apply(vmm, text, NULL, NULL, problem, sizeof problem);
		if (!good)
			wrong(path, problem);
	}
	free(text);
	if (!good)
		return false;
	if (!vmm_describe(vmm, config, &reply)) {
		wrong_reply(path, &reply);
		return false;
	}
	/* files by their names, which messages show; and a machine that nobody controls */
	config->kernel = vmm->resources.boot_source.body.kernel_image_path;
	config->initrd_path = vmm->resources.boot_source.body.initrd_path;
	config->controlled = config->keep_halted = config->own_signals = config->console.lossy = false;
	config->vcpu_name = NULL;
	config->command_line_given = true;
	return true;
}

const char *run_config_stock(void)
{
	return vmm ? vmm->resources.boot_source.body.stock : NULL;
}

int run_config_begin(struct machine *machine, struct riffle_error *error)
{
	return vmm && metrics_configured() ? watch_machine(machine, error) : 0;
}

void run_config_end(void)
{
	if (!vmm)
		return;
	watch_stop();
	metrics_flush(NULL);
	watch_end();
}
