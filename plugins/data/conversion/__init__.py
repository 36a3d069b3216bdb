"""Write one data set in the layout of another.

The copy holds what a run would train and test on: the tracklets that the source's reader gives,
with the options of the config. Frames are copied or linked as they are, never encoded anew; they
keep their extension and are numbered from 1. The conversion reports, a line each, what the layout
cannot hold.

======================  =====================  =======================  ========================
kept in                 manifest               hitsz-vcm                bupt-campus
======================  =====================  =======================  ========================
training tracklets      all                    of 12 frames or more     those that have a partner
                                                                        in the other modality, by
                                                                        person and camera
test tracklets          all                    of 12 frames or more     all
query or gallery        as it was              infrared are queries     as it was
order of tracklets      as it was              person, modality,        person, camera, partners
                                               camera                   side by side
names of people         any                    numbers from 0           numbers from 0
names of cameras        any                    numbers from 0           1 to 6, as BUPTCampus
                                                                        reads its six names
file extensions         any                    jpg, jpeg, png, bmp      any
======================  =====================  =======================  ========================

Trials, junk rules and ways to count ranks belong to a reader and are in no file of these layouts.
BUPTCampus's auxiliary people, if the config reads them, become ordinary training people. Generated
tracklets, such as its FakeIR, are left out.
"""

from plugins.data.conversion.convert import PLACEMENTS, TARGETS, Conversion, convert

__all__ = ["PLACEMENTS", "TARGETS", "Conversion", "convert"]
