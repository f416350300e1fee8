/*
 * criu_program.h - the CRIU that migrations and checkpoints use, for who only wants to know
 */
#pragma once

#include "engine/base/error.h"

#define CRIU_PROGRAM_TEXT_MAX 600

/* "CRIU 4.1.1 (PATH)". */
int criu_program_describe(char ret[CRIU_PROGRAM_TEXT_MAX], struct error *err);

/* Lets it look at this kernel ('criu check'); what it prints is dropped. Waits. */
int criu_program_check(struct error *err);
