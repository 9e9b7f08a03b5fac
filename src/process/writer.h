/*
 * writer.h
 *		A process that reads and writes large answers for its dispatcher.
 */
#ifndef GENJOB_WRITER_H
#define GENJOB_WRITER_H

extern PGDLLEXPORT void genjob_writer_main(Datum handle);

#endif /* GENJOB_WRITER_H */
