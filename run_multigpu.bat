@echo off
rem Train on several GPUs of this machine.
rem
rem   run_multigpu.bat GPUS [TRAINER.py] [flags of the trainer]
rem   run_multigpu.bat 2 --data-path artist_dataset --output-dir runs\lsnet_t --resume auto
rem
rem GPUS processes, one per GPU, share train_artist_style.py unless another trainer is named. They meet by the
rem environment's variables: torchrun needs a library that PyTorch for Windows is built without.
setlocal
set "HERE=%~dp0"
set "TRAINER=train_artist_style.py"
set "GPUS="
set "FLAGS="
for /f "tokens=1,*" %%a in ("%*") do (
    set "GPUS=%%a"
    set FLAGS=%%b
)
echo %GPUS%| findstr /r /x "[1-9][0-9]*" >nul || goto usage
if /i not "%~x2"==".py" goto start
set "TRAINER=%~2"
for /f "tokens=2,*" %%a in ("%*") do set FLAGS=%%b

:start
if not exist "%HERE%%TRAINER%" goto missing
set "PYTHON=%HERE%.venv\Scripts\python.exe"
if not exist "%PYTHON%" set "PYTHON=python"
set "WORLD_SIZE=%GPUS%"
if not defined MASTER_ADDR set "MASTER_ADDR=127.0.0.1"
if not defined MASTER_PORT set "MASTER_PORT=29500"
set "USE_LIBUV=0"
set /a LAST=GPUS-1
for /l %%r in (1,1,%LAST%) do (
    set "RANK=%%r"
    set "LOCAL_RANK=%%r"
    start "rank %%r" /b "%PYTHON%" "%HERE%%TRAINER%" %FLAGS%
)
set "RANK=0"
set "LOCAL_RANK=0"
"%PYTHON%" "%HERE%%TRAINER%" %FLAGS%
exit /b %ERRORLEVEL%

:usage
>&2 echo found %GPUS%; expected the number of GPUs; for example: run_multigpu.bat 2 --data-path artist_dataset
exit /b 2

:missing
>&2 echo found no %HERE%%TRAINER%; expected a trainer beside this script; for example train_artist_style.py
exit /b 2
