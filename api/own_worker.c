// SPDX-License-Identifier: Apache-2.0
/* riffle-vmm as its own worker. The disassembler comes as a shared object alone, so this one does without. */
#include "api/own_worker.h"

#include <Zydis/Zydis.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>

#include "kernel/spawn.h"
#include "kernel/worker.h"

#define ARGUMENTS_MAX 10

/* What the shuffle's analysis would call: it is told not to run. */
ZyanStatus ZydisDecoderInit(ZydisDecoder *decoder, ZydisMachineMode mode, ZydisStackWidth width)
{
	(void)decoder;
	(void)mode;
	(void)width;
	return ZYAN_STATUS_FAILED;
}

ZyanStatus ZydisDecoderDecodeInstruction(const ZydisDecoder *decoder, ZydisDecoderContext *context, const void *buffer,
					 ZyanUSize length, ZydisDecodedInstruction *instruction)
{
	(void)decoder;
	(void)context;
	(void)buffer;
	(void)length;
	(void)instruction;
	return ZYAN_STATUS_FAILED;
}

ZyanStatus ZydisDecoderDecodeFull(const ZydisDecoder *decoder, const void *buffer, ZyanUSize length,
				  ZydisDecodedInstruction *instruction,
				  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT])
{
	(void)decoder;
	(void)buffer;
	(void)length;
	(void)instruction;
	(void)operands;
	return ZYAN_STATUS_FAILED;
}

ZydisRegister ZydisRegisterGetLargestEnclosing(ZydisMachineMode mode, ZydisRegister reg)
{
	(void)mode;
	return reg;
}

bool own_worker(int argc, char **argv, int *code)
{
	static char reason[] = "it was prepared without riffle-prepare, which alone can disassemble";
	char *arguments[ARGUMENTS_MAX + 2];
	int fd;

	if (argc < 2 || strcmp(argv[1], WORKER_OPTION)) {
		fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			fd = open((const char *)getauxval(AT_EXECFN), O_RDONLY | O_CLOEXEC);
		spawn_set_program(fd);
		return false;
	}
	*code = 2;
	if (argc > ARGUMENTS_MAX)
		return true;
	memcpy(arguments, argv + 1, (size_t)(argc - 1) * sizeof *argv);
	/* the last argument, if it is not there already */
	argc--;
	if (argc == 7)
		arguments[argc++] = reason;
	arguments[argc] = NULL;
	*code = worker_main(argc, arguments);
	return true;
}
