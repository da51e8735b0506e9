// SPDX-License-Identifier: Apache-2.0
/* riffle-vmm: the Firecracker-compatible server. */
#include <stdio.h>
#include <string.h>

#include "api/log.h"
#include "api/serve.h"

int main(int argc, char **argv)
{
	struct serve_settings settings = {.vmm = {.id = "anonymous-instance"}, .socket = "/run/firecracker.socket"};

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--api-sock") && i + 1 < argc)
			settings.socket = argv[++i];
		else if (!strcmp(argv[i], "--id") && i + 1 < argc)
			settings.vmm.id = argv[++i];
		else if (!strcmp(argv[i], "--accept-emulation"))
			settings.vmm.accept_emulation = true;
		else if (!strcmp(argv[i], "--no-seccomp"))
			settings.vmm.unconfined = true;
	}
	log_start(settings.vmm.id);
	return serve(&settings);
}
