/*
 * machine.h
 *		How much memory the machine, or the container, has.
 */
#ifndef GENJOB_MACHINE_H
#define GENJOB_MACHINE_H

extern uint64 machine_cgroup_memory(const char *root);
extern uint64 machine_memory(void);

#endif /* GENJOB_MACHINE_H */
