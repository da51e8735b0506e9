/* SPDX-License-Identifier: Apache-2.0 */
/* Tells kinds of kernel files apart by content and assembles the image from what the readers found. */
#include "prepare/image/image.h"

const char *riffle_compression_name(enum riffle_compression compression)
{
	switch (compression) {
	case RIFFLE_COMPRESSION_NONE:
		return "none";
	case RIFFLE_COMPRESSION_GZIP:
		return "gzip";
	case RIFFLE_COMPRESSION_BZIP2:
		return "bzip2";
	case RIFFLE_COMPRESSION_LZMA:
		return "lzma";
	case RIFFLE_COMPRESSION_XZ:
		return "xz";
	case RIFFLE_COMPRESSION_LZO:
		return "lzo";
	case RIFFLE_COMPRESSION_LZ4:
		return "lz4";
	case RIFFLE_COMPRESSION_ZSTD:
		return "zstd";
	}
	return "unknown";
}

const char *riffle_source_kind_name(enum riffle_source_kind kind)
{
	switch (kind) {
	case RIFFLE_SOURCE_BZIMAGE:
		return "bzImage";
	case RIFFLE_SOURCE_ELF_RELA:
		return "ELF with .rela sections";
	case RIFFLE_SOURCE_ELF_RELOCS:
		return "ELF and relocation list";
	case RIFFLE_SOURCE_ELF_APPENDED:
		return "ELF with relocation list appended";
	case RIFFLE_SOURCE_ELF:
		return "ELF without relocations";
	}
	return "unknown";
}
