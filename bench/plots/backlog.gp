# backlog.gp BASE: jobs a second over the size of the backlog, and beside each of a short queue in the same minutes.
load system('dirname '.ARG0).'/style.gp'
set output ARG1.'.svg'
set title 'Drain, while the server answers at once'
set xlabel 'jobs queued'
set ylabel 'jobs/s'
set logscale x
set format x '%.0s%c'
set xrange [*:*] noextend
plot ARG1.'-1.tsv' using 1:2 with linespoints lw 2 pt 7 lc rgb colour[1] title 'the first 10,000 of the backlog', \
	ARG1.'-1.tsv' using 1:3 with linespoints lw 2 pt 6 dt 2 lc rgb colour[2] title 'a queue of 10,000, in turns with it'
