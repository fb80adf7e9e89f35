#!/bin/bash
# The Slurm job of a desktop. A template of vncgate's; what double braces put in is quoted, for bash and #SBATCH lines
# alike. The comment is by what the gate finds the job again: keep it.
#SBATCH --job-name=vncgate-ws01
#SBATCH --comment=vncgate:0123456789abcdef
#SBATCH --chdir=/shared/vncgate/0123456789abcdef
#SBATCH --output=/shared/vncgate/0123456789abcdef/log
#SBATCH --open-mode=append
# A desktop that Slurm starts a second time is not the one that somebody sat at.
#SBATCH --no-requeue
# sbatch sees nothing of modules or conda, so ALL brings none in; with NONE the node would run the user's login shell.
#SBATCH --export=ALL
#SBATCH --propagate=NONE
#SBATCH --nodes=1
#SBATCH --ntasks=1

# Slurm put it back in the queue after all (slurmrestd hears no --no-requeue): the gate has started another by now.
if [ "${SLURM_RESTART_COUNT:-0}" != 0 ]; then
  echo "Slurm started this job a second time: its desktop is gone." >&2
  exit 1
fi

exec bash /shared/vncgate/0123456789abcdef/desktop.sh

----------------------------------------------------------------------------------------------------

#!/bin/bash
# The Slurm job of a desktop. A template of vncgate's; what double braces put in is quoted, for bash and #SBATCH lines
# alike. The comment is by what the gate finds the job again: keep it.
#SBATCH --job-name=vncgate-o_neil__the____touch_pwned___touch_pwned_______j_________
#SBATCH --comment=vncgate:0123456789abcdef
#SBATCH --chdir=/shared/o\''neil "the" $(touch pwned) `touch pwned` '\\' # %j ~ * ‮  ü/0123456789abcdef'
#SBATCH --output=/shared/o\''neil "the" $(touch pwned) `touch pwned` '\\' # %%j ~ * ‮  ü/0123456789abcdef'/log
#SBATCH --open-mode=append
# A desktop that Slurm starts a second time is not the one that somebody sat at.
#SBATCH --no-requeue
# sbatch sees nothing of modules or conda, so ALL brings none in; with NONE the node would run the user's login shell.
#SBATCH --export=ALL
#SBATCH --propagate=NONE
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --gres=gpu:1
#SBATCH --time=1-12:00:00
#SBATCH --partition='gpu nodes'
#SBATCH --account=physics
#SBATCH --qos=o\''neil "the" $(touch pwned) `touch pwned` '\\' # %j ~ * ‮  ü'
#SBATCH --reservation=workshop
#SBATCH '--constraint=a|b' -L matlab:1

# Slurm put it back in the queue after all (slurmrestd hears no --no-requeue): the gate has started another by now.
if [ "${SLURM_RESTART_COUNT:-0}" != 0 ]; then
  echo "Slurm started this job a second time: its desktop is gone." >&2
  exit 1
fi

exec bash /shared/o\''neil "the" $(touch pwned) `touch pwned` '\\' # %j ~ * ‮  ü/0123456789abcdef/desktop.sh'
