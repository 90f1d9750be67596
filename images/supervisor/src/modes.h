/* The modes of the sandbox's own directories, as asked for on the command line. */
#ifndef MODES_H
#define MODES_H

/*
 * `--mode 1777:/workspace`, repeated. runc gives a tmpfs the mode that the image's directory had, whatever the mount asked
 * for; so the owner of each sets it before anything else runs. NULL, or what is wrong.
 */
const char *modes_set(int argc, char **argv);

#endif
