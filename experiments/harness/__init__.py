"""What every experiment is made with: runs, evaluations, command lines and reports. It knows no paper."""
