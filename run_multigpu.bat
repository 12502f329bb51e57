@echo off
rem Train on several GPUs of this machine.
rem
rem   run_multigpu.bat [GPUS] [TRAINER.py] [flags of the trainer]
rem   run_multigpu.bat 2 --data-path artist_dataset --output-dir runs\lsnet_t --resume auto
rem
rem GPUS processes, one per GPU (default: as many as PyTorch sees), share train_artist_style.py unless another trainer
rem is named. They meet by the environment's variables: torchrun needs a library that PyTorch for Windows is built
rem without.
rem
rem Flags stand in no block of parentheses and in no FOR: cmd would end those at the first closing parenthesis of a
rem path. They keep the caller's own quotes, and are cut where the first space is.
setlocal DisableDelayedExpansion
set "HERE=%~dp0"
set "PYTHON=%HERE%.venv\Scripts\python.exe"
if not exist "%PYTHON%" set "PYTHON=python"
set "TRAINER=train_artist_style.py"
set FLAGS=%*
if "%~1"=="" goto noflags
set "GPUS=%~1"
if "%GPUS:~0,1%"=="-" goto count
if /i "%~x1"==".py" goto count
for /f "delims=0123456789" %%c in ("%GPUS%") do goto usage
if "%GPUS:~0,1%"=="0" goto usage
if "%~2"=="" goto noflags
set FLAGS=%FLAGS:* =%
shift /1
goto trainer

:count
"%PYTHON%" -c "import sys, torch; sys.exit(torch.cuda.device_count())"
set "GPUS=%ERRORLEVEL%"
if "%GPUS%"=="0" goto nogpu
if "%GPUS%"=="9009" exit /b 1

:trainer
if /i not "%~x1"==".py" goto start
set "TRAINER=%~1"
if "%~2"=="" goto noflags
set FLAGS=%FLAGS:* =%

:start
if not exist "%HERE%%TRAINER%" goto missing
set "WORLD_SIZE=%GPUS%"
if not defined MASTER_ADDR set "MASTER_ADDR=127.0.0.1"
if not defined MASTER_PORT set "MASTER_PORT=29500"
set "USE_LIBUV=0"
set "RANK=1"

:next
if %RANK% geq %GPUS% goto first
set "LOCAL_RANK=%RANK%"
start "rank %RANK%" /b "%PYTHON%" "%HERE%%TRAINER%" %FLAGS%
set /a RANK+=1
goto next

:first
set "RANK=0"
set "LOCAL_RANK=0"
"%PYTHON%" "%HERE%%TRAINER%" %FLAGS%
exit /b %ERRORLEVEL%

:usage
>&2 echo found "%GPUS%"; expected the number of GPUs, or flags; for example: run_multigpu.bat 2 --data-path artist_dataset
exit /b 2

:noflags
>&2 echo found no flags for %TRAINER%; expected --data-path and what else it needs; for example: run_multigpu.bat 2 --data-path artist_dataset
exit /b 2

:nogpu
>&2 echo found no GPU that PyTorch sees; expected one, or the number of processes in front; for example: run_multigpu.bat 2 --data-path artist_dataset
exit /b 2

:missing
>&2 echo found no "%HERE%%TRAINER%"; expected a trainer beside this script, such as train_artist_style.py
exit /b 2
